"""Runs on streams: killed anywhere they go on to the same losses, and the log says what came of which source."""

import itertools
import json
import pickle
import random
import re
import threading
import time
from collections import Counter
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from task_parts import preprocessor_for, reader_for
from training_runs import TINY_MODEL, after_step, losses, start, tiny_content, train_and_die

from trefoil.configuration.errors import UserError
from trefoil.configuration.presets import preset_config
from trefoil.data.batching import Share
from trefoil.data.mixture import sample
from trefoil.data.streaming import open_sources
from trefoil.data.tokenizer import train_tokenizer
from trefoil.recipes.schema import Recipe, build, validate
from trefoil.tasks import preprocessor
from trefoil.training.checkpoints import checkpoint_folders, load_state
from trefoil.training.loop import TrainingLoop
from trefoil.training.progress import timed
from trefoil.training.run import train
from trefoil.training.training_data import SplitData, StreamData, _ReaderDataset

WORDS = [
    "나는",
    "오늘",
    "학교에",
    "갔다",
    "and",
    "then",
    "I",
    "went",
    "home",
    "🙂",
    "the",
    "cat",
    "sat",
    "on",
    "고양이",
    "강아지",
]
TASKS = {
    "causal-lm": {"model": {"preset": "decoder-tiny"}, "evaluation": {"metric": "perplexity"}},
    "masked-lm": {"model": {"preset": "encoder-tiny"}, "evaluation": {"metric": "perplexity"}},
    "denoising": {"options": {"objective": "prefix"}, "evaluation": {"metric": "perplexity"}},
    "translation": {"data": {"columns": {"source": "ko", "target": "en"}}},
}
# trains, and each process writes down the texts that it encodes; one of them may kill itself after a step
RECORDED = """
import json, os, signal, sys
from trefoil.cli import main
from trefoil.tasks.preprocessor import Preprocessor
from trefoil.training.loop import TrainingLoop
out, step_of_death, rank = sys.argv[1], int(sys.argv[2]), os.environ.get("RANK", "0")
encode, step = Preprocessor.encode_block, TrainingLoop.step
def recorded(self, rows, *rest):
    with open(f"{out}.{rank}", "a") as file:
        file.write(json.dumps(rows["text"]) + "\\n")
    return encode(self, rows, *rest)
def step_and_die(self, micro_batches):
    values = step(self, micro_batches)
    if self.position.step == step_of_death:
        self.writer.finish()  # of both: the checkpoint before it is whole
        if rank == "1":
            os.kill(os.getpid(), signal.SIGKILL)
    return values
Preprocessor.encode_block, TrainingLoop.step = recorded, step_and_die
sys.exit(main(["train", *sys.argv[3:]]))
"""


def row(name, number, shuffled):
    text = " ".join(shuffled.choices(WORDS, k=shuffled.randint(2, 25)))
    return {"text": f"{name}{number} {text}", "ko": f"{name}{number} {text}", "en": text[::-1]}


def lines(name, count):
    shuffled = random.Random(name)
    rows = [row(name, number, shuffled) for number in range(count)]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.fixture
def recipe(tmp_path, write):
    """A function: a run's name and changes -> a recipe of 20 steps on a stream of two sources."""
    for name, count in (("validation", 8), ("test", 8), ("a", 90), ("b", 33)):
        write(f"{name}.jsonl", lines(name, count))
    sources = [
        {"path": str(tmp_path / "data" / "a.jsonl"), "weight": 0.7},
        {"path": str(tmp_path / "data" / "b.jsonl"), "weight": 0.3},
    ]

    def make(name="run", task="causal-lm", **changes):
        content = tiny_content(tmp_path / name, task=task, batches={"tokens_per_batch": 600}, **TASKS[task])
        content["data"] = {
            **TASKS[task].get("data", {}), "path": str(tmp_path / "data"), "streaming": True, "shuffle_buffer": 40,
            "sources": sources, **changes.pop("data", {}),
        }  # fmt: skip
        content["evaluation"] |= {"max_examples": 4}
        for section, values in changes.items():
            content[section] = {**content.get(section, {}), **values}
        made = build(Recipe, content, "tiny.yaml")
        validate(made, "tiny.yaml")
        return made

    return make


@pytest.mark.parametrize(
    "task", [task if task == "causal-lm" else pytest.param(task, marks=pytest.mark.slow) for task in TASKS]
)
def test_killed_after_any_step_it_goes_on_to_the_same_losses(recipe, tmp_path, monkeypatch, task):
    train(recipe("whole", task))
    for step in (6, 11, random.randint(13, 19)):
        train_and_die(monkeypatch, recipe("run", task), after_step(step))
    train(recipe("run", task))
    assert losses(tmp_path / "run") == losses(tmp_path / "whole"), f"killed at last at step {step}"
    assert list(losses(tmp_path / "run")) == list(range(1, 21))


@pytest.mark.slow
def test_asked_to_stop_within_a_block_it_goes_on_to_the_same_losses(recipe, tmp_path, monkeypatch):
    def stop_and_step(self, micro_batches, step=TrainingLoop.step):
        self.stop_requested = self.position.step == 9
        return step(self, micro_batches)

    changes = {"batches": {"tokens_per_device": 200}}
    train(recipe("whole", **changes))
    train_and_die(monkeypatch, recipe(**changes), (TrainingLoop, "step", stop_and_step), death=KeyboardInterrupt)
    (reader,) = load_state(checkpoint_folders(tmp_path / "run" / "checkpoints")[-1])["data"]["readers"]
    assert 0 < reader["batch"] < reader["batches"]
    train(recipe(**changes))
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


@pytest.mark.slow
def test_workers_go_on_where_they_were(recipe, tmp_path, monkeypatch):
    train(recipe("whole", batches={"workers": 2}))
    train_and_die(monkeypatch, recipe(batches={"workers": 2}), after_step(17))
    assert load_state(checkpoint_folders(tmp_path / "run" / "checkpoints")[-1])["step"] == 12
    train(recipe(batches={"workers": 2}))
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def in_processes(folder, recipe, processes=2, death=0, out="seen"):
    (folder / f"{out}.py").write_text(RECORDED)
    (folder / f"{out}.yaml").write_text(recipe.to_yaml())
    return start(folder / f"{out}.py", folder / out, death, folder / f"{out}.yaml", processes=processes)


def seen(folder, rank, out="seen"):
    return [
        text.split()[0] for line in (folder / f"{out}.{rank}").read_text().splitlines() for text in json.loads(line)
    ]


def test_layers_compute_again_as_the_start_of_the_stream_asks_for(recipe, tmp_path, capsys):
    training, model = {"max_steps": 4}, {"config": TINY_MODEL | {"num_hidden_layers": 2}}
    train(recipe("whole", training=training, model=model))
    train(recipe("run", training=training | {"gradient_checkpointing": 0.0025}, model=model))
    (told,) = [line for line in capsys.readouterr().err.splitlines() if "compute again" in line]
    assert told.startswith("layers that compute again: 1 of 2; the largest batch keeps 0.00"), told
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_divide_the_stream(recipe, tmp_path):
    process = in_processes(tmp_path, recipe())
    assert process.returncode == 0, process.stderr
    assert list(losses(tmp_path / "run")) == list(range(1, 21))
    shares = [Counter(seen(tmp_path, rank)) for rank in range(2)]
    assert not shares[0].keys() & shares[1].keys()
    assert {name for share in shares for name in share} == {
        *(f"a{number}" for number in range(90)), *(f"b{number}" for number in range(33))
    }  # fmt: skip
    for share in shares:
        for source in "ab":  # every row of a pass before any of the next
            counts = [share[name] for name in share if name[0] == source]
            assert max(counts) - min(counts) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_two_processes_that_are_killed_go_on_to_the_same_losses(recipe, tmp_path, workers):
    changes = {"batches": {"workers": workers}}
    assert in_processes(tmp_path, recipe("whole", **changes), out="one").returncode == 0
    process = in_processes(tmp_path, recipe(**changes), death=15, out="two")
    assert process.returncode != 0
    assert load_state(checkpoint_folders(tmp_path / "run" / "checkpoints")[-1])["step"] == 12
    process = in_processes(tmp_path, recipe(**changes), out="three")
    assert process.returncode == 0, process.stderr
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


@pytest.mark.slow
def test_in_fewer_processes_it_goes_on_and_says_what_is_not_exact(recipe, tmp_path, capsys):
    assert in_processes(tmp_path, recipe(), death=15).returncode != 0
    before = load_state(checkpoint_folders(tmp_path / "run" / "checkpoints")[-1])["data"]["readers"]
    train(recipe())
    assert "read by 2 processes, now 1: each source goes on about where it was, but" in capsys.readouterr().err
    assert list(losses(tmp_path / "run")) == list(range(1, 21))
    (after,) = load_state(checkpoint_folders(tmp_path / "run" / "checkpoints")[-1])["data"]["readers"]
    assert after["block"] > max(reader["block"] for reader in before)
    assert np.greater_equal(after["before"], np.sum([reader["here"] for reader in before], axis=0)).all()


@pytest.mark.slow
def test_with_more_workers_it_goes_on(recipe, tmp_path, monkeypatch, capsys):
    train_and_die(monkeypatch, recipe(), after_step(14))
    train(recipe(batches={"workers": 2}))
    assert "read by 1 readers in each, now 2: each source goes on about where it was" in capsys.readouterr().err
    assert list(losses(tmp_path / "run")) == list(range(1, 21))


def test_the_log_says_what_came_of_which_source(recipe, tmp_path, capsys):
    train(recipe())
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    entries = [entry for entry in entries if "loss" in entry]
    for before, after in itertools.pairwise(entries):
        for key in ("rows", "tokens"):
            assert after[f"source/a.jsonl/{key}"] >= before[f"source/a.jsonl/{key}"] > 0
    rows = [entries[-1][f"source/{name}.jsonl/rows"] for name in "ab"]
    assert rows[0] / sum(rows) == pytest.approx(0.7, abs=0.06)
    assert sum(entries[-1][f"source/{name}.jsonl/share"] for name in "ab") == pytest.approx(1)
    trained = sum(entry["tokens"] for entry in entries)  # with padding, and without the last token of each document
    assert sum(entries[-1][f"source/{name}.jsonl/tokens"] for name in "ab") == pytest.approx(trained, rel=0.15)
    said = capsys.readouterr().err
    assert "a stream of 70.0% a.jsonl, 30.0% b.jsonl, 4 for validation" in said
    assert "tokenizer on the stream's first 123 examples" in said
    assert "b.jsonl: all rows were read; it begins again, for pass 2" in said
    assert "the stream's first 123 rows: best-fit packing: " in said


def test_invalid_rows_are_refused_by_file_and_line_or_skipped_and_counted(recipe, tmp_path, write, capsys):
    file = write("c.jsonl", lines("c", 60) + '{"text": 5}\n{"text": " "}\n{"tex\n' + lines("d", 20))
    data = {"sources": [{"path": str(file)}]}
    with pytest.raises(UserError, match=r"c.jsonl line 63: not JSON"):
        train(recipe(data=data))
    data["invalid_examples"] = "skip"
    train(recipe(data=data))
    said = capsys.readouterr().err
    assert re.search(r"skipped [123] invalid rows among \d+; the first: \S+c.jsonl line 6[123], column 'text' ", said)
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["skipped"] for entry in entries if "loss" in entry][-1] >= 3


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_invalid_row_ends_the_run_in_one_line(recipe, write, workers):
    file = write("c.jsonl", lines("c", 200) + '{"text": 5}\n')
    changes = {"data": {"sources": [{"path": str(file)}]}, "batches": {"workers": workers}}
    changes["training"] = {"max_steps": 200, "evaluate_every": 500, "save_every": 500}
    with pytest.raises(UserError) as error:
        train(recipe(**changes))
    assert str(error.value) == (
        f"{file} line 201: column 'text' holds 5, not a text; mend it or set data.invalid_examples=skip"
    )


def test_another_stream_is_another_run(recipe, monkeypatch):
    train_and_die(monkeypatch, recipe(), after_step(8))
    with pytest.raises(UserError, match=r"holds another run \(data.shuffle_buffer is 40 there and 50 here\)"):
        train(recipe(data={"shuffle_buffer": 50}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"max_epochs": 1}}, "training.max_epochs counts passes, and a stream has no length"),
        ({"data": {"max_train_examples": 5}}, "data.max_train_examples is for data that ends"),
        ({"data": {"embedded": True, "path": None}}, "data.embedded is made in memory"),
        ({"data": {"sources": [{"weight": 1}]}}, r"data.sources\[0\] needs one of name .* and path"),
        ({"data": {"sources": [{"path": "x", "split": "train[:9]"}]}}, r"the split 'train\[:9\]' is a part"),
        ({"data": {"sources": [{"pfad": "x"}]}}, r"unknown key data.sources\[0\].pfad; did you mean path\?"),
        ({"data": {"sources": [{"path": "x", "weight": 0}]}}, r"data.sources\[0\].weight=0.0 must be positive"),
        ({"data": {"sources": [{"path": "nowhere"}]}}, r"data.sources\[0\].path='nowhere': there are no such file"),
        ({"data": {"streaming": False}}, "data.shuffle_buffer is for a stream; set data.streaming=true"),
        (
            {"options": {"documents": "stream"}},
            "data.streaming shuffles its lines; set options.documents=row.*packing=wrapped",
        ),
        ({"data": {"columns": {"text": "body"}}}, r"a.jsonl line 1: no column 'body'; there are text, ko, en"),
    ],
)
def test_what_a_stream_cannot_do_is_refused_in_a_line_each(recipe, changes, message):
    with pytest.raises(UserError, match=message) as error:
        train(recipe(**changes))
    lines = str(error.value).splitlines()
    assert len(lines) == 1 or all(line.startswith("tiny.yaml: ") for line in lines)


def test_a_task_that_learns_from_its_whole_split_is_no_stream(recipe):
    streamed = recipe()
    streamed.task, streamed.options, streamed.data.columns = "text-classification", {}, {}
    streamed.evaluation.metric = None
    with pytest.raises(UserError, match="text-classification looks at its whole training split before the first step"):
        train(streamed)


def test_texts_are_tokenized_a_few_at_a_time(recipe, tmp_path, monkeypatch):
    short = {"max_steps": 8}
    train(recipe("whole", training=short))
    monkeypatch.setattr(preprocessor, "CHARACTERS", 300)
    train(recipe(training=short))
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_a_reader_can_be_sent_to_a_worker_that_is_not_forked(recipe):
    streamed = recipe()
    reader = reader_for(streamed)
    sources = open_sources(streamed.data, reader.column_names())
    tokenizer = train_tokenizer(sample(sources, ["text"], 100)["text"], streamed.tokenizer, reader.template)
    config = preset_config("decoder-tiny", **TINY_MODEL | {"vocab_size": len(tokenizer)})
    data = StreamData(preprocessor_for(streamed, None, tokenizer, config), sources, Share())
    sent = pickle.loads(pickle.dumps(_ReaderDataset(data)))
    for (expected, state), (found, same) in itertools.islice(zip(_ReaderDataset(data), sent, strict=False), 5):
        assert state == same
        assert (expected[0]["input_ids"] == found[0]["input_ids"]).all()


@pytest.mark.slow
def test_a_file_that_was_changed_since_the_run_began_is_refused(recipe, tmp_path, write, monkeypatch):
    train_and_die(monkeypatch, recipe(), after_step(7))
    file = tmp_path / "data" / "b.jsonl"
    size = file.stat().st_size
    write("b.jsonl", lines("b", 40))
    with pytest.raises(UserError) as error:
        train(recipe())
    assert str(error.value) == (
        f"b.jsonl: b.jsonl is not what it was when this run began ({size:,} bytes then, {file.stat().st_size:,} bytes now); "
        "put it back, or set another output_dir to begin anew"
    )
    write("b.jsonl", lines("b", 33))
    assert train(recipe())["steps"] == 20


@pytest.mark.slow
def test_blocks_without_a_valid_row_are_passed_over(recipe, tmp_path, write, capsys, monkeypatch):
    """And a run that was killed among them goes on as if nothing had happened."""
    file = write("c.jsonl", lines("c", 90) + '{"text": 5}\n' * 130 + lines("d", 60))
    data = {"sources": [{"path": str(file)}], "invalid_examples": "skip"}
    train(recipe("whole", data=data))
    assert re.search(r"skipped \d+ invalid rows among 4\d; the first: \S+c.jsonl line \d+, ", capsys.readouterr().err)
    entries = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    last = [entry for entry in entries if "loss" in entry][-1]
    assert last["skipped"] >= 130
    assert last["source/c.jsonl/rows"] > 280
    for step in (8, 15):
        train_and_die(monkeypatch, recipe(data=data), after_step(step))
    train(recipe(data=data))
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_pass_without_a_valid_row_is_refused_in_a_line(recipe, write, monkeypatch, workers):
    file = write("c.jsonl", lines("c", 5) + '{"text": 5}\n' * 90)
    streamed = recipe(data={"sources": [{"path": str(file)}], "invalid_examples": "skip"}, batches={"workers": workers})
    reader = reader_for(streamed)
    sources = open_sources(streamed.data, reader.column_names())
    tokenizer = train_tokenizer(sample(sources, ["text"], 100)["text"], streamed.tokenizer, reader.template)
    write("c.jsonl", '{"text": 5}\n' * 95)
    config = preset_config("decoder-tiny", **TINY_MODEL | {"vocab_size": len(tokenizer)})
    data = StreamData(
        preprocessor_for(streamed, None, tokenizer, config), open_sources(streamed.data, {"text": "text"}), Share()
    )
    with pytest.raises(UserError) as error:
        next(data.steps(0, 0))
    assert re.fullmatch(
        r"c.jsonl: all rows were read, and none is valid; \S+c.jsonl line \d+, column 'text' holds 5, not a text",
        str(error.value),
    )


def test_the_next_step_is_made_while_one_is_taken(tmp_path):
    """And the numbers that the step draws are its own."""
    begun = []

    def collate(rows):
        begun.append(threading.current_thread())
        time.sleep(0.05)
        return {"input_ids": torch.tensor(rows["ids"])}

    recipe = build(Recipe, tiny_content(tmp_path) | {"batches": {"tokens_per_batch": 32}}, "here")
    batches = SimpleNamespace(
        recipe=recipe, collate=collate, randomize=lambda rows, *_: rows, lengths=lambda rows: np.full((len(rows), 1), 8)
    )
    data = SplitData(batches, datasets.Dataset.from_dict({"ids": [[number] * 8 for number in range(16)]}), Share())
    torch.manual_seed(0)
    expected = torch.rand(data.steps_per_epoch + 3)
    torch.manual_seed(0)
    drawn, waits = [], []
    for _, waited in itertools.islice(timed(data.steps(0, 0)), len(expected)):  # into the second epoch
        time.sleep(0.1)
        drawn.append(torch.rand(()))
        waits.append(waited)
    assert torch.equal(torch.stack(drawn), expected)
    assert threading.main_thread() not in begun
    assert len(begun) > len(waits)
    assert waits[0] >= 0.05
    assert sorted(waits)[len(waits) // 2] < 0.03
