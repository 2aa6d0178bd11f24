"""Whole runs, tiny ones: what they leave behind, what changes nothing, and what is refused."""

import itertools
import json
import math
import re
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
import torch
from conftest import SMALL
from safetensors.torch import load_file, save_file
from training_runs import TALKATIVE, after_step, losses, start, tiny_content, tiny_recipe, train_and_die
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerFast

import trefoil
from trefoil.cli import main
from trefoil.configuration.errors import UserError
from trefoil.data.batching import StepDataset
from trefoil.recipes.schema import Recipe, build
from trefoil.tasks import causal_lm
from trefoil.tasks.translation import TranslationEvaluator
from trefoil.training import run
from trefoil.training.checkpoints import checkpoint_folders, load_state
from trefoil.training.loop import TrainingLoop
from trefoil.training.run import evaluate, train

WITHOUT_DROPOUT = {"model": {"config": {"hidden_dropout": 0.0}}}

# trains and writes down the sources of each step that this process was given
RECORDED = """
import json, os, sys
from trefoil.cli import main
from trefoil.training.loop import TrainingLoop
step = TrainingLoop.step
def step_and_record(self, micro_batches):
    rows = [
        ids[mask.bool()].tolist()
        for batch in micro_batches
        for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"])
        if (labels != -100).any()
    ]
    with open(f"{sys.argv[1]}.{self.share.rank}", "a") as file:
        file.write(json.dumps([self.position.epoch, rows]) + "\\n")
    return step(self, micro_batches)
TrainingLoop.step = step_and_record
sys.exit(main(["train", sys.argv[2]]))
"""


# --- what a run leaves behind


def test_a_run_leaves_a_model_its_results_and_its_curve(finished_run):
    best = finished_run / "best"
    results = json.loads((best / "results.json").read_text())
    assert results["steps"] == 20
    assert results["weights"] == "step 20"
    for split in ("validation", "test"):
        assert {"bleu", "chrf", "exact_match", "bleu_signature", "chrf_signature"} == results[split].keys()
    assert {(entry["name"], entry["split"]) for entry in results["metrics"]} == {
        (name, split) for name in ("bleu", "chrf", "exact_match") for split in ("validation", "test")
    }
    assert (best / "curve.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert (best / "curve.png").stat().st_size > 5000
    assert (best / "recipe.yaml").read_bytes() == (finished_run / "recipe.yaml").read_bytes()
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(best), AutoTokenizer.from_pretrained(best)
    assert type(model) is trefoil.TrefoilEncoderDecoderForConditionalGeneration
    assert model.generation_config.max_new_tokens == 8
    output = model.generate(**tokenizer("세 시 반", return_tensors="pt"))
    assert output.shape[1] <= 9
    lines = [json.loads(line) for line in (finished_run / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 6
    assert json.loads((best / "example.json").read_text())["text"] in {line["ko"] for line in lines}


def test_every_step_is_logged_and_the_loss_falls(finished_run):
    found = losses(finished_run)
    assert list(found) == list(range(1, 21))
    assert found[20] < found[1] - 0.5
    entries = [json.loads(line) for line in (finished_run / "log.jsonl").read_text().splitlines()]
    assert sum("validation_loss" in entry for entry in entries) == 1
    wanted = {"learning_rate", "grad_norm", "tokens_per_second", "mfu", "epoch", "tokens", "data_seconds"}
    assert wanted <= entries[0].keys()
    assert entries[0]["data_seconds"] > 0


def test_nothing_is_left_half_done(finished_run):
    assert {path.name for path in finished_run.iterdir()} == {
        ".trefoil-run", ".trefoil-run.lock", "recipe.yaml", "tokenizer", "checkpoints", "best", "log.jsonl",
        "predictions.jsonl",
    }  # fmt: skip
    assert [path.name for path in sorted((finished_run / "checkpoints").iterdir())] == [
        "step-00000018", "step-00000020",
    ]  # fmt: skip


def test_the_launchers_precision_is_the_runs_and_is_written_down(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setattr(run, "Accelerator", lambda **options: SimpleNamespace(**options))
    recipe = tiny_recipe(tmp_path / "run")
    assert run.make_accelerator(recipe).mixed_precision is None  # what only measures computes in full
    accelerator = run.make_accelerator(recipe, tmp_path / "run")
    assert accelerator.mixed_precision == recipe.training.mixed_precision == "bf16"
    assert "mixed_precision: bf16" in recipe.to_yaml()


def test_parts_that_do_not_make_up_the_launch_are_the_launchers_mistake(tmp_path, monkeypatch):
    def refuse(**options):
        raise ValueError("ParallelismConfig total_size (4) does not match num_processes (2).")

    monkeypatch.setattr(run, "Accelerator", refuse)
    with pytest.raises(UserError, match=r"the launcher's file: ParallelismConfig total_size \(4\) does not match"):
        run.make_accelerator(tiny_recipe(tmp_path / "run"), tmp_path / "run")


ENDS = """
import gc
import sys
from accelerate import Accelerator
from torch.nn.parallel import DistributedDataParallel
from trefoil.cli import main
end = Accelerator.end_training
def end_and_look(self):
    assert not any(type(each) is DistributedDataParallel for each in gc.get_objects())
    end(self)
Accelerator.end_training = end_and_look
sys.exit(main(["train", sys.argv[1]]))
"""


@pytest.mark.slow
def test_the_model_goes_before_the_group_of_processes(tmp_path):
    """Else it may be the last to hold the group, whose end then waits for a thread that waits for it."""
    (tmp_path / "recipe.yaml").write_text(tiny_recipe(tmp_path / "run", training={"max_steps": 2}).to_yaml())
    (tmp_path / "script.py").write_text(ENDS)
    process = start(tmp_path / "script.py", tmp_path / "recipe.yaml", processes=2)
    assert process.returncode == 0, process.stderr


def test_the_same_recipe_gives_the_same_losses(finished_run, tmp_path):
    train(tiny_recipe(tmp_path / "run"))
    assert losses(tmp_path / "run") == losses(finished_run)


def test_another_seed_gives_others(finished_run, tmp_path):
    train(tiny_recipe(tmp_path / "run", seed=1, training={"max_steps": 2}))
    assert losses(tmp_path / "run")[1] != losses(finished_run)[1]


def test_averaged_weights_are_the_mean_of_the_last_checkpoints(tmp_path, monkeypatch):
    scores = iter([{"chrf": 1.0}, {"chrf": 2.0}, {"chrf": 3.0}])
    while_training = TranslationEvaluator.evaluate

    def evaluate_as_told(self, model, final):
        return {**next(scores), "predictions": [""] * 6} if final else while_training(self, model, final)

    monkeypatch.setattr(TranslationEvaluator, "evaluate", evaluate_as_told)
    results = train(tiny_recipe(tmp_path / "run", training={"average_checkpoints": 3}))
    assert results["weights"] == "mean of steps 12, 18, 20"
    folders = checkpoint_folders(tmp_path / "run" / "checkpoints")
    parts = [load_file(folder / "model.safetensors") for folder in folders]
    mean = load_file(tmp_path / "run" / "best" / "model.safetensors")
    assert [load_state(folder)["step"] for folder in folders] == [12, 18, 20]
    for name, tensor in mean.items():
        torch.testing.assert_close(tensor, sum(part[name] for part in parts) / 3)
    assert not (tmp_path / "run" / "averaged").exists()


# --- how it is computed changes nothing


def test_accumulation_changes_nothing(tmp_path):
    usual = WITHOUT_DROPOUT | {"training": {"max_steps": 8}}
    train(tiny_recipe(tmp_path / "one", **usual))
    changes = usual | {"batches": {"tokens_per_device": 300}}
    train(tiny_recipe(tmp_path / "four", **changes))
    assert losses(tmp_path / "four") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)


def test_worker_processes_change_nothing(finished_run, tmp_path, monkeypatch):
    train_and_die(monkeypatch, tiny_recipe(tmp_path / "run", batches={"workers": 1}), after_step(13))
    assert len(losses(tmp_path / "run")) == 12
    assert losses(tmp_path / "run").items() < losses(finished_run).items()


def test_an_epoch_sees_every_example_once(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        StepDataset,
        "__getitem__",
        lambda self, position, get=StepDataset.__getitem__: (
            seen.extend(self.share.of(self.plan[position])[0].tolist() if len(self.examples) == 120 else []),
            get(self, position),
        )[1],
    )
    train(tiny_recipe(tmp_path / "run", training={"max_steps": None, "max_epochs": 2}))
    assert Counter(seen[:240]) == dict.fromkeys(range(120), 2)  # behind them, what a next step would have
    assert len(set(seen[:120])) == 120


@pytest.fixture(scope="module")
def alone_and_together(tmp_path_factory):
    """The same recipe in one process and in two; with the sources that each process saw."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "script.py").write_text(RECORDED)
    train(tiny_recipe(folder / "alone", **TALKATIVE))
    (folder / "recipe.yaml").write_text(tiny_recipe(folder / "together", **TALKATIVE).to_yaml())
    process = start(folder / "script.py", folder / "seen", folder / "recipe.yaml", processes=2)
    assert process.returncode == 0, process.stderr
    return folder


def test_two_processes_reach_the_same_losses(alone_and_together):
    together, alone = losses(alone_and_together / "together"), losses(alone_and_together / "alone")
    assert list(together) == list(range(1, 21))
    assert together == pytest.approx(alone, abs=1e-4)


def test_two_processes_see_every_example_once_an_epoch(alone_and_together):
    shares = []
    for rank in range(2):
        lines = (alone_and_together / f"seen.{rank}").read_text().splitlines()
        shares.append([json.loads(line) for line in lines])
    for epoch in range(2):
        seen = Counter(tuple(row) for share in shares for number, rows in share if number == epoch for row in rows)
        assert len(seen) == 120
        assert set(seen.values()) == {1}
    assert len(shares[0]) == len(shares[1]) == 20


def test_two_processes_score_the_same(alone_and_together):
    together, alone = (
        json.loads((alone_and_together / name / "best" / "results.json").read_text()) for name in ("together", "alone")
    )
    predictions = [(alone_and_together / name / "predictions.jsonl").read_text() for name in ("together", "alone")]
    assert predictions[0] == predictions[1]
    assert len({json.loads(line)["prediction"] for line in predictions[0].splitlines()}) > 2
    for split in ("validation", "test"):
        assert together[split] == alone[split]
    logs = [(alone_and_together / name / "log.jsonl").read_text().splitlines() for name in ("together", "alone")]
    found = [[entry["validation_loss"] for entry in map(json.loads, log) if "validation_loss" in entry] for log in logs]
    assert found[0] == pytest.approx(found[1], abs=1e-4)


# --- where it starts from


def test_it_can_start_from_a_trained_model(finished_run, tmp_path):
    recipe = started_from(tmp_path / "run", finished_run, config={"hidden_dropout": 0.0})
    recipe.training.max_steps, recipe.optimization.warmup_steps = 1, 0
    train(recipe)
    assert losses(tmp_path / "run")[1] < losses(finished_run)[15]
    config = json.loads((tmp_path / "run" / "best" / "config.json").read_text())
    assert config["encoder"]["hidden_dropout"] == config["decoder"]["hidden_dropout"] == 0.0
    tokenizers = [AutoTokenizer.from_pretrained(folder / "best") for folder in (finished_run, tmp_path / "run")]
    assert tokenizers[0].get_vocab() == tokenizers[1].get_vocab()


def started_from(folder, source, **model):
    recipe = tiny_recipe(folder)
    recipe.model = type(recipe.model)(init_from=str(source), **model)
    return recipe


def test_a_model_of_another_family_is_refused(finished_run, tmp_path):
    model = trefoil.TrefoilDecoderForCausalLM(trefoil.TrefoilDecoderConfig(**SMALL | {"vocab_size": 300}))
    model.save_pretrained(tmp_path / "decoder")
    AutoTokenizer.from_pretrained(finished_run / "best").save_pretrained(tmp_path / "decoder")
    with pytest.raises(UserError) as error:
        train(started_from(tmp_path / "run", tmp_path / "decoder"))
    assert str(error.value) == (
        f"model.init_from='{tmp_path / 'decoder'}' is a trefoil_decoder; "
        "the task translation needs trefoil_encoder_decoder or trefoil_recurrent"
    )
    recipe = tiny_recipe(tmp_path / "run-2")
    recipe.model = type(recipe.model)(preset="gpt2", config={"num_hidden_layers": 1, "hidden_size": 48})
    with pytest.raises(UserError, match=r"model.preset='gpt2' is a trefoil_decoder; the task translation needs"):
        train(recipe)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hiden_dropout": 0.1}, "unknown field 'hiden_dropout'"),
        ({"hidden_dropout": "much"}, "hidden_dropout"),
        ({"hidden_size": 64}, r"is \(32, 32\) there, and \(32, 64\) in this model"),
    ],
)
def test_wrong_changes_of_a_trained_models_config_are_refused(finished_run, tmp_path, fields, message):
    with pytest.raises(UserError, match=message) as error:
        train(started_from(tmp_path / "run", finished_run, config=fields))
    assert str(error.value).startswith("model.init_from=")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_numbers_are_named(finished_run, tmp_path, value):
    folder = shutil.copytree(finished_run / "best", tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    weights["model.decoder.layers.0.mlp.up_proj.weight"][3, 2] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError) as error:
        train(started_from(tmp_path / "run", folder))
    assert str(error.value) == (
        f"model.init_from='{folder}': model.decoder.layers.0.mlp.up_proj.weight holds NaN or an infinity; give weights that "
        "are all numbers"
    )


def test_pickled_weights_are_not_read(finished_run, tmp_path, capsys):
    folder = shutil.copytree(finished_run / "best", tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"no file named model.safetensors"):
        train(started_from(tmp_path / "run", folder))
    with pytest.raises(UserError, match=r"pickled: .*no file named model.safetensors"):
        evaluate(folder)
    assert main(["translate", str(folder), "하나"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_no_model_there(tmp_path):
    with pytest.raises(UserError, match="no tokenizer to load") as error:
        train(started_from(tmp_path / "run", tmp_path / "nothing"))
    assert "\n" not in str(error.value)


def test_a_tokenizer_that_the_model_has_no_embeddings_for_is_refused(tmp_path):
    with pytest.raises(UserError) as error:
        train(tiny_recipe(tmp_path / "run", model={"config": {"vocab_size": 200}}))
    assert "is out of range: the model's vocab_size is 200; it must be at least 300" in str(error.value)
    assert str(error.value).startswith("token id 299 (")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hiden_size": 32}, "model: encoder-decoder-tiny: unknown field 'hiden_size'"),
        ({"num_attention_heads": 3}, "hidden_size=32 is not a multiple of num_attention_heads=3"),
        ({"hidden_size": "large"}, "hidden_size"),
    ],
)
def test_a_wrong_architecture_is_refused(tmp_path, fields, message):
    with pytest.raises(UserError, match=message) as error:
        train(tiny_recipe(tmp_path / "run", model={"config": fields}))
    assert "\n" not in str(error.value)


# --- rows that cannot be used


def local_data(write, train_rows=(), test_rows=()):
    words = ["하나", "둘", "셋", "넷", "다섯", "여섯", "일곱", "여덟", "아홉", "열"]
    rows = [{"ko": f"{word} {other}", "en": f"{other} {word}"} for word in words for other in words]
    for split, more in {"train": train_rows, "validation": (), "test": test_rows}.items():
        chosen = rows[: 100 if split == "train" else 6]
        file = write(f"{split}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in [*chosen, *more]))
    return {"path": str(file.parent), "embedded": False}


LONG = {"ko": "하나 둘 셋 " * 60, "en": "one two three"}


@pytest.mark.parametrize(
    ("split", "row", "message"),
    [
        (
            "train",
            LONG,
            r"train.jsonl example 101: column 'ko' has \d+ tokens, more than the model's 96 \(batches.truncate=true cuts\); mend it or set",
        ),
        ("train", {"ko": "하나", "en": " "}, "train.jsonl example 101: column 'en' is empty"),
        ("train", {"ko": None, "en": "one"}, "train.jsonl example 101: column 'ko' holds None, not a text"),
        ("train", {"ko": 1, "en": "one"}, "train.jsonl example 101: column 'ko' holds 1, not a text"),
        ("test", LONG, "test.jsonl example 7: column 'ko' has"),
        ("test", {"ko": None, "en": "one"}, "test.jsonl example 7: column 'ko' holds None, not a text"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_before_training(tmp_path, write, monkeypatch, split, row, message):
    monkeypatch.setattr(TrainingLoop, "step", lambda *_: pytest.fail("began to train"))
    data = local_data(write, **{f"{split}_rows": [row]})
    with pytest.raises(UserError, match=message):
        train(tiny_recipe(tmp_path / "run", data=data, tokenizer={"vocab_size": 270}))


def test_rows_that_cannot_be_used_are_skipped_and_counted_if_so_wished(tmp_path, write, capsys):
    bad = [LONG, {"ko": "", "en": "x"}, {"ko": None, "en": "x"}]
    data = local_data(write, train_rows=bad, test_rows=bad)
    recipe = tiny_recipe(
        tmp_path / "run",
        data={**data, "invalid_examples": "skip"},
        tokenizer={"vocab_size": 270},
        training={"max_steps": 2},
    )
    train(recipe)
    shown = capsys.readouterr().err
    assert "train.jsonl: skipped 3 invalid examples; the first: example 101, column 'ko' has" in shown
    # a source that is too long is cut when it is scored, a text that is not there cannot be
    assert len((tmp_path / "run" / "predictions.jsonl").read_text().splitlines()) == 7


@pytest.mark.parametrize(
    ("kind", "size", "is_told"),
    [("characters", 150, True), pytest.param("byte_bpe", 270, False, marks=pytest.mark.slow)],
)
def test_it_says_how_many_tokens_the_tokenizer_does_not_know(tmp_path, capsys, kind, size, is_told):
    train(tiny_recipe(tmp_path / "run", tokenizer={"kind": kind, "vocab_size": size}, training={"max_steps": 1}))
    shown = capsys.readouterr().err
    for split in ("training", "validation"):
        assert bool(re.search(rf"[1-9]\d?\.\d\d% of the tokens for {split} are unknown to the token", shown)) is is_told


@pytest.mark.slow
def test_one_file_is_not_enough_to_train_unless_it_is_cut(tmp_path, write):
    data = local_data(write)
    file = str(Path(data["path"]) / "train.jsonl")
    with pytest.raises(UserError, match=r'one file, .* cut the file: "data.split={validation: 0.1, test: 0.1}"'):
        train(tiny_recipe(tmp_path / "run", data={**data, "path": file}))
    changes = {"training": {"max_steps": 1}, "data": {**data, "path": file, "split": {"validation": 0.1, "test": 0.2}}}
    train(tiny_recipe(tmp_path / "run", **changes))
    rows = [json.loads(line) for line in Path(file).read_text().splitlines()]
    tested = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    assert abs(len(tested) - 0.2 * len(rows)) <= 1
    assert len(evaluate(tmp_path / "run" / "best", split="validation")) == 5
    del changes["data"]["split"]["test"]
    assert "test" not in train(tiny_recipe(tmp_path / "other", **changes))
    with pytest.raises(UserError, match=r"data.split: cuts no 'test', only validation"):
        evaluate(tmp_path / "other" / "best")


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"model": {"config": {"hiden_size": 3}}}, ["model: encoder-decoder-tiny: unknown field 'hiden_size' of"]),
        (
            {"model": {"preset": "encoder-tiny"}, "options": {"direction": []}},
            [
                "task translation: unknown key options.direction",
                "model.preset='encoder-tiny' is a trefoil_encoder; the task",
            ],
        ),
        ({"task": "ner"}, ["task='ner': unknown task; did you mean token-classification?"]),
        ({"task": "sentimnt"}, ["task='sentimnt': unknown task; did you mean text-classification?"]),
    ],
)
def test_a_recipe_that_does_not_suit_is_refused_before_anything_is_written(tmp_path, changes, messages):
    with pytest.raises(UserError) as error:
        train(tiny_recipe(tmp_path / "run", **changes))
    for line, message in zip(str(error.value).splitlines(), messages, strict=True):
        assert line.startswith(message)
    assert not (tmp_path / "run").exists()


def test_of_each_kind_of_invalid_row_the_first_is_told_before_a_tokenizer_is_trained(tmp_path, write):
    rows = [{"text": f"{number} 🙂 좋다", "label": "ab"[number % 2]} for number in range(9)]
    rows += [
        {"text": "a", "label": " "},
        {"text": None, "label": "a"},
        {"text": "b", "label": None},
        {"text": "", "label": "a"},
    ]
    train_file = write("train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    file = write("validation.jsonl", json.dumps({"text": 7, "label": "a"}) + "\n")
    data = {"path": str(file.parent), "test_split": None, "embedded": False, "embedded_sizes": None, "columns": None}
    content = tiny_content(
        tmp_path / "run",
        task="text-classification",
        data=data,
        model={"preset": "encoder-tiny"},
        evaluation={"metric": None},
    )
    content["data"]["columns"], content["language"] = {}, ["ko"]
    recipe = build(Recipe, content, "tiny.yaml")
    for _ in range(2):  # what was found is found again
        with pytest.raises(UserError) as error:
            train(recipe)
        assert str(error.value).splitlines() == [
            f"{train_file} example 10: column 'label' is empty (and 1 more like it)",
            f"{train_file} example 11: column 'text' holds None, not a text",
            f"{train_file} example 13: column 'text' is empty",
            f"{file} example 1: column 'text' holds 7, not a text; mend them or set data.invalid_examples=skip",
        ]
        assert not (tmp_path / "run" / "tokenizer").exists()


# --- data that is not what it was


def fewer(rows):
    return rows[:-1]


def another(rows):
    return [*rows[:-1], {"ko": "하나 둘", "en": "one two"}]


def swapped(rows):
    return [rows[1], rows[0], *rows[2:]]


@pytest.mark.parametrize(
    ("split", "change", "told"),
    [
        ("train", fewer, "100 examples then, 99 now"),
        pytest.param("train", another, "as many examples, of which some are others", marks=pytest.mark.slow),
        pytest.param("train", swapped, "as many examples, of which some are others", marks=pytest.mark.slow),
        pytest.param("validation", another, "as many examples, of which some are others", marks=pytest.mark.slow),
    ],
)
def test_data_that_was_changed_since_the_run_began_is_refused(tmp_path, write, monkeypatch, split, change, told):
    data = local_data(write)
    changes = {"data": data, "tokenizer": {"vocab_size": 270}}
    train_and_die(monkeypatch, tiny_recipe(tmp_path / "run", **changes), after_step(8))
    file = Path(data["path"]) / f"{split}.jsonl"
    content = file.read_text()
    rows = [json.loads(line) for line in content.splitlines()]
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in change(rows)))
    with pytest.raises(UserError) as error:
        train(tiny_recipe(tmp_path / "run", **changes))
    assert str(error.value) == (
        f"{file}: is not what it was when this run began ({told}); put it back, or set another output_dir to begin anew"
    )
    file.write_text(content)
    assert train(tiny_recipe(tmp_path / "run", **changes))["steps"] == 20


# --- when it ends


def test_it_stops_after_so_many_minutes(tmp_path):
    changes = {"max_steps": None, "max_minutes": 0.2 / 60}
    results = train(tiny_recipe(tmp_path / "run", training=changes))
    assert results["steps"] >= 1
    assert 0.2 <= results["training_seconds"] < 20
    again = train(tiny_recipe(tmp_path / "run", training=changes))
    assert again["steps"] == results["steps"]


def test_the_schedule_and_the_time_left_follow_the_minutes(tmp_path, capsys):
    changes = {"max_steps": None, "max_minutes": 1.0 / 60, "save_every": 4}
    optimization = {"schedule": "linear", "warmup_steps": 0, "learning_rate": 1e-3}
    train(tiny_recipe(tmp_path / "run", training=changes, optimization=optimization))
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    steps = [entry for entry in lines if "learning_rate" in entry]
    shares = [entry["learning_rate"] / 1e-3 for entry in steps]
    assert shares[0] == 1
    assert shares[-1] < 0.3
    for before, after in itertools.pairwise(steps[2:]):  # what is left of the second
        planned = max(before["step"], math.ceil((before["step"] - 1) / before["seconds"]))
        assert after["learning_rate"] / 1e-3 == pytest.approx(1 - before["step"] / planned)
    shown = capsys.readouterr().err
    assert re.search(r"step \d+/\d+ .*  left 0:00", shown)


def test_it_stops_when_it_no_longer_improves(tmp_path, monkeypatch, capsys):
    scores = iter([1.0, 3.0, 2.0, 3.0, 9.0])
    evaluate_model = TrainingLoop._evaluate

    def evaluate_as_told(self):
        score = {"chrf": next(scores)}
        monkeypatch.setattr(self.evaluator, "evaluate", lambda *_, **__: score, raising=False)
        evaluate_model(self)

    monkeypatch.setattr(TrainingLoop, "_evaluate", evaluate_as_told)
    results = train(tiny_recipe(tmp_path / "run", training={"evaluate_every": 2, "patience": 2}))
    assert results["steps"] == 8
    assert results["weights"] == "step 8"  # as good as step 4, with a lower loss
    assert "no better chrf in 2 evaluations (training.patience), so training ends\n" in capsys.readouterr().err


# --- tokenized once

PRESETS = {"translation": "encoder-decoder-tiny", "causal-lm": "decoder-tiny"}


@pytest.mark.parametrize("task", ["translation", pytest.param("causal-lm", marks=pytest.mark.slow)])
def test_each_text_is_tokenized_once_over_evaluations_a_resumed_run_and_evaluate(task, write, tmp_path, monkeypatch):
    """Whatever goes through the tokenizer is counted, in all three."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    texts = {}
    for split, size in {"train": 30, "validation": 6, "test": 4}.items():
        rows = [{"ko": f"{split} 사과 {number}개", "en": f"{split} {number} apples"} for number in range(size)]
        rows = rows if task == "translation" else [{"text": row["ko"]} for row in rows]
        write(f"{split}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        texts[split] = [text for row in rows for text in row.values()]
    counted = Counter()

    def count_and_encode(self, text, *arguments, encode=PreTrainedTokenizerFast._encode_plus, **options):
        counted.update([text] if isinstance(text, str) else text)
        return encode(self, text, *arguments, **options)

    def count_and_encode_barely(tokenizer, texts, encode=causal_lm.bare_ids):
        counted.update(texts)
        return encode(tokenizer, texts)

    monkeypatch.setattr(PreTrainedTokenizerFast, "_encode_plus", count_and_encode)
    monkeypatch.setattr(causal_lm, "bare_ids", count_and_encode_barely)
    content = tiny_content(tmp_path / "run", training={"evaluate_every": 4}, model={"preset": PRESETS[task]})
    columns = {"source": "ko", "target": "en"} if task == "translation" else {}
    content |= {"task": task, "data": {"path": str(tmp_path / "data"), "columns": columns}}
    content["evaluation"] = {"num_beams": 1, "max_new_tokens": 4}
    recipe = build(Recipe, content, "tiny.yaml")
    found = {}

    def count(what, does):
        counted.clear()
        does()
        found[what] = {split: sorted(counted[text] for text in of_split) for split, of_split in texts.items()}

    evaluations = []
    monkeypatch.setattr(TrainingLoop, "_evaluate", counting(TrainingLoop._evaluate, evaluations))
    count("a run that dies after step 14", lambda: train_and_die(monkeypatch, recipe, after_step(14)))
    assert evaluations == [4, 8, 12]
    count("the same command", lambda: train(recipe))
    assert evaluations == [4, 8, 12, 16, 20]
    count("evaluate", lambda: evaluate(tmp_path / "run" / "best"))
    told = "; ".join(
        f"{what}: " + ", ".join(f"{sum(times)} of {len(times)} {split} texts" for split, times in splits.items())
        for what, splits in found.items()
    )
    once = {split: [1] * len(of_split) for split, of_split in texts.items()}
    never = {split: [0] * len(of_split) for split, of_split in texts.items()}
    assert list(found.values()) == [once, never, never], f"tokenized in {told}"


def counting(evaluate_model, steps):
    """Notes the steps at which it is evaluated."""

    def evaluate_and_note(self):
        steps.append(self.position.step)
        evaluate_model(self)

    return evaluate_and_note


# --- what is refused before any work


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "translate"}, "task='translate': unknown task; did you mean translation?"),
        ({"evaluation": {"metric": "blue"}}, "evaluation.metric='blue': the task translation has no such metric"),
        ({"training": {"trackers": ["tensorbord"]}}, "training.trackers: 'tensorbord' is not installed or unknown"),
        ({"data": {"embedded_sizes": {"trian": 5}}}, "data.embedded_sizes={.*}: unknown split 'trian'"),
        ({"data": {"embedded_sizes": {"test": 0}}}, "the split 'test' is empty; it needs at least one example"),
        ({"data": {"columns": {"source": "kr"}}}, "embedded data, split 'train': no column 'kr'; there are id, ko, en"),
        ({"data": {"validation_split": "dev"}}, "the embedded data has no split 'dev'; there are train, validation"),
        ({"optimization": {"schedule": "cosine_with_min_lr"}}, "optimization.schedule_options={}"),
        ({"optimization": {"schedule_options": {"foo": 1}}}, "optimization.schedule_options={'foo': 1}"),
        (
            {"optimization": {"warmup_steps": 21}},
            "optimization.warmup_steps=21 is more than the run's 20 steps; set fewer, such as 2, or train longer",
        ),
        (
            {"optimization": {"warmup_steps": 400}, "training": {"max_steps": None, "max_epochs": 3}},
            r"optimization.warmup_steps=400 is more than the run's \d\d steps; set fewer, such as \d, or train longer",
        ),
    ],
)
def test_mistakes_in_a_recipe_are_told_before_any_work(tmp_path, monkeypatch, changes, message):
    monkeypatch.setattr(TrainingLoop, "step", lambda *_: pytest.fail("began to train"))
    with pytest.raises(UserError, match=message) as error:
        train(tiny_recipe(tmp_path / "run", **changes))
    assert "\n" not in str(error.value)


# --- measuring a model


def test_evaluate_gives_the_results_of_the_run(finished_run, tmp_path):
    scores = evaluate(finished_run / "best", predictions=str(tmp_path / "said.jsonl"))
    assert scores == json.loads((finished_run / "best" / "results.json").read_text())["test"]
    assert (tmp_path / "said.jsonl").read_bytes() == (finished_run / "predictions.jsonl").read_bytes()
    assert evaluate(finished_run / "best", split="validation").keys() == scores.keys()


def test_evaluate_refuses(finished_run, tmp_path):
    with pytest.raises(UserError, match=r"has no recipe.yaml, which says what to measure"):
        evaluate(tmp_path)
    with pytest.raises(UserError, match="its folder does not exist"):
        evaluate(finished_run / "best", predictions=str(tmp_path / "nowhere" / "said.jsonl"))
    with pytest.raises(UserError, match="no split 'dev'"):
        evaluate(finished_run / "best", split="dev")
