"""Peers answer on the files that ours reads, differences are as sure as they are said to be, and a killed benchmark goes on."""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import seldom

import trefoil
from benchmarks.quality import __main__ as command
from benchmarks.quality import crf, linear, report, worker
from benchmarks.quality.data import AS_WRITTEN, DATA, DataSet, write_splits
from benchmarks.quality.runs import ROOT, Outcome, Outcomes, Run, pin
from benchmarks.quality.scores import MEASURES
from benchmarks.quality.worker import MODELS
from benchmarks.speed import models
from trefoil.configuration.errors import UserError
from trefoil.recipes.schema import load_recipe
from trefoil.tasks.metrics import paired
from trefoil.tasks.metrics.paired import Difference, is_sure

TINY = (
    "tokenizer.vocab_size=300", "model.config={hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, "
    "num_attention_heads: 2, max_position_embeddings: 128}",
)  # fmt: skip
SIZES = "data.embedded_sizes={train: 120, validation: 20, test: 20}"


def embedded(task):
    [found] = [each for each in DATA.values() if each.is_embedded and each.recipe_of(None).task == task]
    return replace(found, changes=(SIZES, *TINY))


def run_of(data, source, output, model, task, **changes):
    files = write_splits(data, source, output)
    overrides = (*data.changes, *AS_WRITTEN, f"data.path={files.folder}")
    run = Run(task, data.name, model, 0, None, None, 1, data.recipe, overrides, files.content, files.rows)
    return replace(run, **changes)


@pytest.fixture
def running_text(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        (folder / f"{split}.txt").write_text("오늘 🍎 세 개 \n\n the apples were sold \n" * 40, encoding="utf-8")
    changes = (*TINY, "model.preset=decoder-tiny", "options.stride=16", "optimization.optimizer=adamw",
               "model.config.max_position_embeddings=32", "evaluation.tokens_per_batch=128")  # fmt: skip
    return DataSet("text", "decoder-causal-lm-wikitext2", changes, has_closed_vocabulary=True), folder


# --- files


def test_ours_is_read_line_by_line_whatever_its_texts_hold(tmp_path, monkeypatch):
    rows = [{"text": f"줄\u2028바꿈\x85 🙂 {n}", "label": n % 2} for n in range(6)]
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = run_of(DATA["SST-2"], tmp_path, tmp_path / "out", "ours", "text-classification", minutes=1.0)

    def trained(command, check):
        folder = Path(command[-1].removeprefix("output_dir="))
        (folder / "best").mkdir(parents=True)
        (folder / "best" / "results.json").write_text('{"training_seconds": 60.0}')
        said = [json.dumps(row | {"prediction": "positive"}, ensure_ascii=False) for row in rows]
        (folder / "predictions.jsonl").write_text("\n".join(said) + "\n", encoding="utf-8")
        assert {"training.max_minutes=1.0", "training.max_epochs=null", "seed=0"} <= set(command)
        return argparse.Namespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", trained)
    answer = worker.ours(run, tmp_path)
    assert MEASURES[run.task].of(answer.parts) == 50
    assert answer.seconds == 60


def test_every_data_set_has_a_recipe_that_its_command_can_change():
    for data in DATA.values():
        recipe = data.recipe_of(None if data.is_embedded else Path("some/folder"))
        assert recipe.task in MODELS
        assert recipe.task in MEASURES
        assert load_recipe(data.recipe, [*data.changes, *AS_WRITTEN, "data.path=there"]).data.path == "there"


def test_rows_are_the_first_as_the_seed_shuffles_them(tmp_path):
    data = embedded("text-classification")
    every, some, more, other = (
        write_splits(data, None, tmp_path, rows, seed) for rows, seed in ((None, 0), (5, 0), (10, 0), (5, 1))
    )
    lines = {each: (each.folder / "train.jsonl").read_text(encoding="utf-8").splitlines() for each in (every, some, more, other)}  # fmt: skip
    assert (every.rows, some.rows) == (120, 5)
    assert lines[more][:5] == lines[some] != lines[other]
    assert set(lines[other]) < set(lines[every])
    assert (some.folder / "test.jsonl").read_bytes() == (every.folder / "test.jsonl").read_bytes()
    assert len({each.content for each in lines}) == 4
    with pytest.raises(UserError, match="--rows 121: embedded topics has 120 training rows"):
        write_splits(data, None, tmp_path, 121)


def test_labels_of_two_columns(tmp_path):
    rows = [{"ko": f"문장 {n} 🙂", "topic": n % 3, "act": n % 2, "group": "0"} for n in range(40)]
    for split in ("train", "validation"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    files = write_splits(DATA["StyleKQC"], tmp_path, tmp_path / "out")
    first = json.loads((files.folder / "train.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first == {"ko": "문장 0 🙂", "label": "topic=0 act=0"}
    assert files.rows == 38
    (tmp_path / "train.jsonl").write_text("")
    with pytest.raises(UserError, match="empty"):
        write_splits(DATA["StyleKQC"], tmp_path, tmp_path / "out")


def test_a_running_text_has_no_rows_to_draw(running_text, tmp_path):
    with pytest.raises(UserError, match="--rows: text is one running text"):
        write_splits(*running_text, tmp_path, rows=3)


# --- peers


@pytest.mark.parametrize(
    "name",
    seldom([name for name in MODELS["text-classification"] if name.startswith("TF-IDF")], "TF-IDF, words"),
)
def test_texts_are_classified(name, tmp_path):
    run = run_of(embedded("text-classification"), None, tmp_path, name, "text-classification")
    answer = MODELS[run.task][name].answer(run, tmp_path)
    assert answer.parts.shape == (20, 2)
    assert MEASURES[run.task].of(answer.parts) > 50
    assert float(answer.how.removeprefix("C=")) in linear.STRENGTHS


def test_the_strength_is_chosen_on_the_validation_split():
    train = (["good film", "bad film"] * 10 + ["good bad"], ["yes", "no"] * 10 + ["no"])
    _, chosen = linear.classify(train, (["good"], ["yes"]), ["good"], "words", (1e-4, 10.0))
    assert chosen == 10.0
    labels, chosen = linear.classify(train, (["film"], ["no"]), ["good"], "words", (1e-4, 10.0))
    assert (labels, chosen) == (["no"], 1e-4)


@pytest.mark.parametrize(("task", "expected"), [("words", 4), ("characters", 4)])
def test_tags_are_found_by_what_stands_around(task, expected):
    pytest.importorskip("sklearn_crfsuite")
    are_characters = task == "characters"
    sentences = [
        list("내일 서울에 가요") if are_characters else f"we met {name} today".split() for name in ("Ann", "Bob") * 5
    ]
    marked = [["B-X" if token in ("Ann", "Bob", "서") else "I-X" if token == "울" else "O" for token in each] for each in sentences]  # fmt: skip
    measure = MEASURES["token-classification"]
    asked = [list("오늘 서울에 가요") if are_characters else ["we", "met", "Cid", "today"]]
    found, penalties = crf.tag(
        (sentences, marked), (sentences[:2], marked[:2]), asked, are_characters,
        score=lambda true, predicted: measure.of(measure.parts(true, predicted)),
    )  # fmt: skip
    assert found == [["O", "O", "O", "B-X", "I-X", "O", "O", "O", "O"] if are_characters else ["O", "O", "B-X", "O"]]
    assert penalties in crf.PENALTIES


def test_features_of_words_and_characters():
    assert crf.shape("McDonald-77") == "XxXx-d"
    assert crf.shape("서울 1호") == "c dc"
    first, second = crf.word_features(["New", "York"])
    assert {"w=new", "form=New", "shape=Xx", "prefix2=ne", "suffix2=ew", "1:w=york", "-1:outside"} <= set(first)
    assert {"-1:w=new", "2:outside"} <= set(second)
    of_last = crf.character_features(list("나 서울"))[-1]
    assert {"c=울", "word=서울", "begins=False", "-1:2=서울", "-2:3= 서울", "-1:c=서"} <= set(of_last)
    assert crf.character_features([]) == crf.word_features([]) == []
    assert len(crf.character_features(["🙂🙂", " ", "a"])) == 3


def test_a_peer_that_is_not_installed_is_left_out(monkeypatch, capsys):
    monkeypatch.setattr(worker, "find_spec", lambda name: None)
    names = command.chosen_models(DATA["WNUT-17"], "token-classification", None, is_curve=False)
    assert names == ["ours", "Trainer", "Trainer's defaults"]
    assert "sklearn-crfsuite is not installed" in capsys.readouterr().err


def test_a_curve_shows_ours_and_the_simple_peer():
    assert command.chosen_models(DATA["SST-2"], "text-classification", None, is_curve=True) == ["ours", "TF-IDF, both"]
    some = command.chosen_models(DATA["SST-2"], "text-classification", ["TF-IDF, words"], is_curve=True)
    assert some == ["TF-IDF, words"]
    assert "n-grams of words" not in command.chosen_models(DATA["TinyShakespeare"], "causal-lm", None, is_curve=False)


@pytest.mark.parametrize("name", ["n-grams of tokens", "n-grams of words"])
def test_ngrams_are_scored_on_the_blocks_that_ours_is(name, running_text, tmp_path):
    run = run_of(*running_text, tmp_path, name, "causal-lm")
    answer = MODELS[run.task][name].answer(run, tmp_path / "run")
    assert answer.parts[:, 1].sum() == pytest.approx(40 * (4 + 0 + 4 + 3))  # words and ends of lines
    assert len(answer.parts) > 2
    assert 1 < MEASURES[run.task].of(answer.parts) < 2  # what comes again and again


def test_words_that_training_has_not_are_refused(running_text, tmp_path):
    data, folder = running_text
    (folder / "test.txt").write_text("the pears were sold\n", encoding="utf-8")
    run = run_of(data, folder, tmp_path, "n-grams of words", "causal-lm")
    with pytest.raises(UserError, match="the word 'pears', which training has not"):
        MODELS[run.task][run.model].answer(run, tmp_path / "run")


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("text-classification", "Trainer"),
        pytest.param("token-classification", "Trainer's defaults", marks=pytest.mark.slow),
        pytest.param("causal-lm", "Trainer", marks=pytest.mark.slow),
    ],
)
def test_the_trainer_stops_when_the_minutes_are_over(task, name, running_text, tmp_path):
    data, source = running_text if task == "causal-lm" else (embedded(task), None)
    run = run_of(data, source, tmp_path, name, task, minutes=0.005)
    answer = MODELS[task][name].answer(run, tmp_path / "run")
    assert 0.3 <= answer.seconds < 3
    assert 0 <= MEASURES[task].of(answer.parts) < 1e4
    assert bool(answer.how) is (name == "Trainer")


@pytest.mark.slow
def test_the_trainer_translates(tmp_path):
    data = embedded("translation")
    data = replace(
        data, changes=(SIZES, "tokenizer.vocab_size=300", "evaluation.max_new_tokens=8", "evaluation.num_beams=2")
    )
    run = run_of(data, None, tmp_path, "Trainer", "translation", minutes=0.02)
    answer = MODELS["translation"]["Trainer"].answer(run, tmp_path / "run")
    assert answer.parts.shape == (20, 10)


def test_the_rate_rises_and_falls_with_the_time():
    from benchmarks.quality.stock import TimedTrainer

    made = TimedTrainer.__new__(TimedTrainer)
    made.warmup, made.clock = 0.1, argparse.Namespace(passed=0.0)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = made.create_scheduler(10, optimizer)
    rates = []
    for made.clock.passed in (0.05, 0.1, 0.55, 1.0):
        optimizer.step()
        schedule.step()
        rates.append(schedule.get_last_lr()[0])
    assert rates == pytest.approx([0.5, 1.0, 0.5, 0.0])


@pytest.mark.parametrize("is_gated", [True, False])
def test_a_stock_decoder_is_as_large_as_ours(is_gated):
    config = trefoil.preset_config(
        "decoder-tiny", vocab_size=64, hidden_size=16, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        is_gated_act=is_gated, pad_token_id=0,
    )  # fmt: skip
    stock, ours = models.counterpart("causal-lm", config), trefoil.TrefoilDecoderForCausalLM(config)
    assert stock.num_parameters() == pytest.approx(ours.num_parameters(), rel=0.01)


# --- runs


def some_run(model="ours", seed=0, rows=None, content="c", **changes):
    base = Run("text-classification", "SST-2", model, seed, rows, 5.0, 1, "recipe", ("a=1",), content, rows or 900)
    return replace(base, **changes)


def outcome(run, right, seconds=1.0):
    parts = np.array([[1.0, 1.0]] * right + [[0.0, 1.0]] * (100 - right))
    return Outcome(run, float(right), seconds, "C=3" if "TF" in run.model else "", parts)


def kept(outcomes, run, score=80.0):
    folder = outcomes.folder_of(run)
    folder.mkdir(parents=True)
    np.save(folder / "parts.npy", np.array([[1.0, 1.0]]))
    return json.dumps({"run": json.loads(run.to_json()), "score": score, "seconds": 1.0, "how": "한글 🙂"})


def test_a_killed_benchmark_goes_on(tmp_path, monkeypatch):
    outcomes = Outcomes(tmp_path)
    runs = [some_run(seed=seed) for seed in range(4)]
    outcomes.add(kept(outcomes, runs[0]))
    with outcomes.file.open("ab") as file:
        file.write('{"run": {"task": "한'.encode()[:-1])  # killed while writing
    (tmp_path / runs[1].name).mkdir()
    line = kept(outcomes, replace(runs[2], seed=9)).replace('"seed": 9', '"seed": 2')
    outcomes.folder_of(runs[2]).mkdir()
    (outcomes.folder_of(runs[2]) / "outcome.json").write_text(line)  # its process outlived the benchmark
    started = []

    def start(run, folder):
        started.append(run.seed)
        (folder / "outcome.json").write_text(kept(Outcomes(tmp_path / "aside"), run))

    monkeypatch.setattr(outcomes, "_start", start)
    outcomes.do(runs)
    assert started == [1, 3]
    lines = outcomes.file.read_text(encoding="utf-8", errors="replace").splitlines()
    assert len(lines) == 5
    assert outcomes.read()[runs[0]].how == "한글 🙂"
    outcomes.do(runs[:1])
    assert started == [1, 3]
    assert some_run(content="other") not in outcomes.read()


def test_a_second_benchmark_is_kept_out(tmp_path):
    with (
        Outcomes(tmp_path).claimed(),
        pytest.raises(UserError, match="another benchmark is at work here"),
        Outcomes(tmp_path).claimed(),
    ):
        pass


def test_a_run_that_fails_says_why(tmp_path, monkeypatch):
    def fails(command, stdout, **options):
        stdout.write("step 1\nerror: data/train.jsonl line 3: empty\n")
        return argparse.Namespace(returncode=1)

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(UserError, match=r"SST-2: ours, seed 0 failed \(.*log\.txt\): data/train\.jsonl line 3: empty"):
        Outcomes(tmp_path).do([some_run()])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_processes_stay_on_their_cores():
    script = (
        "import os; from benchmarks.quality.runs import pin; pin(1); import subprocess, sys; "
        "sys.exit(subprocess.call([sys.executable, '-c', 'import os; "
        'print(len(os.sched_getaffinity(0)), os.environ["OMP_NUM_THREADS"])\']))'
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]
    with pytest.raises(UserError, match="--threads 9999: this process may use"):
        pin(9999)
    assert "9999" not in os.environ.values()  # of which tokenizers would make so many threads


def test_seeds_are_taken_in_turns(tmp_path):
    options = argparse.Namespace(rows=None, seeds=2, output=tmp_path, models=["ours", "TF-IDF, both", "Trainer"],
                                 minutes=3.0, threads=1)  # fmt: skip
    runs = list(command.runs_of(embedded("text-classification"), None, options))
    assert [(run.model, run.seed) for run in runs] == [
        ("ours", 0), ("TF-IDF, both", 0), ("Trainer", 0), ("ours", 1), ("Trainer", 1),
    ]  # fmt: skip
    assert [run.minutes for run in runs] == [3.0, None, 3.0, 3.0, 3.0]
    assert len({run.content for run in runs}) == 1
    options.rows = [5, 10]
    runs = list(command.runs_of(embedded("text-classification"), None, options))
    assert [(run.rows, run.seed) for run in runs if run.model != "ours"][::2] == [(5, 0), (5, 1), (10, 0), (10, 1)]


# --- tables


def test_a_peer_stands_beside_ours_of_the_same_files_and_minutes(monkeypatch):
    monkeypatch.setattr(paired, "DRAWS", 200)
    found = [
        outcome(some_run(content="old"), 10),
        *(outcome(some_run(seed=seed), 90 + seed) for seed in (0, 1)),
        outcome(some_run("TF-IDF, both", minutes=None), 70),
        outcome(some_run("Trainer", minutes=9.0), 95),
        outcome(some_run("Trainer's defaults", seed=1), 60),
    ]
    rows = report.rows_of(found)
    assert [(row.peer, [each.score for each in row.ours]) for row in rows] == [
        ("TF-IDF, both", [90, 91]), ("Trainer's defaults", [91]),
    ]  # fmt: skip
    line = report.line(rows[0])
    assert line.startswith("| SST-2 | TF-IDF, both | 900 | 90.5 | 70.0 | **+20.5** | +")
    assert line.endswith("| 1 | 1 | C=3 |")
    assert line.count("|") == report.HEADER.count("|")
    [alone] = report.rows_of(found[3:4])
    assert report.line(alone) == "| SST-2 | TF-IDF, both | 900 |  | 70.0 |  |  |  |  | 1 | C=3 |"


def of_curve(scores_by_rows):
    return [
        outcome(some_run(model, seed, rows, f"{rows}-{seed}", minutes=None if model != "ours" else 5.0), score + seed)
        for rows, (ours, theirs) in scores_by_rows.items()
        for seed in (0, 1)
        for model, score in (("ours", ours), ("TF-IDF, both", theirs))
    ]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({1000: (60, 70), 3000: (75, 72), 10000: (80, 75)}, "from 3,000 rows on, and not at 1,000."),
        ({1000: (75, 70), 3000: (76, 72)}, "at every size from 1,000 rows on."),
        ({1000: (60, 70), 3000: (70, 72)}, "at none of the sizes up to 3,000 rows."),
        ({1000: (75, 70), 3000: (70, 72)}, "at some sizes, but not at 3,000 rows."),
    ],
)
def test_the_text_says_from_how_many_rows_ours_wins(found, said):
    [points] = report.curves(report.rows_of(of_curve(found))).values()
    assert [len(point.theirs) for point in points] == [2] * len(found)
    assert report.sentence(points) == f"SST-2: by accuracy, ours is better than TF-IDF, both {said}"


def test_the_page_gets_its_tables_numbers_and_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(paired, "DRAWS", 20)
    page = tmp_path / "quality.md"
    places = (ROOT / "docs" / "quality.md").read_text(encoding="utf-8")
    page.write_text(places, encoding="utf-8")
    found = report.rows_of(
        [*of_curve({1000: (60, 70), 3000: (75, 72)}), outcome(some_run("TF-IDF, words", minutes=None), 7)]
    )
    (tmp_path / "images").mkdir()
    before = [{"task": "causal-lm", "rows": 5}, {"task": "text-classification", "rows": 5}]
    (tmp_path / "images" / "quality.json").write_text(json.dumps(before), encoding="utf-8")
    report.write(found, tmp_path)
    text = page.read_text(encoding="utf-8")
    assert "| SST-2 | TF-IDF, both | 1,000 | 60.5 | 70.5 |" in text
    assert "- SST-2: by accuracy, ours is better than TF-IDF, both from 3,000 rows on" in text
    assert (tmp_path / "images" / "quality.png").read_bytes()[:4] == b"\x89PNG"
    of_other_task, *numbers = json.loads((tmp_path / "images" / "quality.json").read_text(encoding="utf-8"))
    assert of_other_task == before[0]
    assert [(each["rows"], each["ours"], each["theirs"]) for each in numbers] == [
        (900, [], [7]), (1000, [60, 61], [70, 71]), (3000, [75, 76], [72, 73]),
    ]  # fmt: skip
    for task in MODELS:
        assert f"<!-- table {task} -->" in places


def test_less_perplexity_wins():
    runs = [some_run(model, task="causal-lm", data="text") for model in ("ours", "n-grams of tokens")]
    ours, theirs = (Outcome(run, score, 1.0, "", np.ones((2, 2))) for run, score in zip(runs, (100, 200), strict=True))
    [row] = report.rows_of([ours, theirs])
    assert row.is_won()
    assert is_sure(Difference(1.0, 2.0, (-2.0, -1.0), (-3.0, -0.5)))
    assert not is_sure(Difference(1.0, 2.0, (-2.0, -1.0), (-3.0, 0.5)))


@pytest.mark.slow
def test_mistakes_on_the_command_line(benchmark):
    benchmark("-m", "benchmarks.quality", "text-clasification", code=2)
    benchmark("-m", "benchmarks.quality", "--models", "CRFF", code=2)
    benchmark("-m", "benchmarks.quality", "--seeds", "0", code=2)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["text-classification", "token-classification", "causal-lm"])
def test_ours_is_scored_as_its_results_say(task, running_text, tmp_path):
    data, source = running_text if task == "causal-lm" else (embedded(task), None)
    run = run_of(data, source, tmp_path, "ours", task, minutes=0.01)
    outcomes = Outcomes(tmp_path / "runs")
    with outcomes.claimed():
        outcomes.do([run])
    found = outcomes.read()[run]
    results = json.loads((outcomes.folder_of(run) / "run" / "best" / "results.json").read_text(encoding="utf-8"))
    assert found.score == pytest.approx(results["test"][MEASURES[task].name], rel=1e-5)
    assert found.seconds == results["training_seconds"]
