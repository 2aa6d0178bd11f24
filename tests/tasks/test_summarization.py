"""Summaries: a run is scored by the ROUGE of what it said, and a text that it cannot read is refused or cut."""

import json

import datasets
import pytest
from task_parts import preprocessor_for, reader_for
from training_runs import losses, tiny_recipe
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import trefoil
from trefoil.configuration.errors import UserError
from trefoil.configuration.presets import preset_config
from trefoil.data.tokenizer import TEXT_TO_TEXT, train_tokenizer
from trefoil.recipes.schema import TokenizerRecipe
from trefoil.tasks.metrics import SummaryQuality
from trefoil.tasks.preprocessor import CUT
from trefoil.tasks.summarization import SUMMARIZATION
from trefoil.training.run import evaluate, train

NAMES, PLACES = ["민수", "지영", "수진", "현우"], ["학교", "시장", "공원"]
ROWS = [
    {"document": f"{name} 씨는 {place}에 갔다. 날씨가 좋았다.", "summary": f"{name}, {place}에 갔다"}
    for name in NAMES
    for place in PLACES
]
LONG = "길다 " * 50


def recipe_of(output_dir="runs/summaries", **changes):
    data = {
        "embedded": False, "embedded_sizes": None, "path": "data",
        "columns": {"source": "document", "target": "summary"}, **changes.pop("data", {}),
    }  # fmt: skip
    return tiny_recipe(
        output_dir,
        task="summarization",
        **{
            "data": data,
            "tokenizer": {"kind": "characters"},
            "model": {"config": {"hidden_dropout": 0.0}},
            "evaluation": {"metric": None, "max_new_tokens": 20},
            **changes,
        },
    )


@pytest.fixture
def folder(write):
    for split in ("train", "validation", "test"):
        file = write(f"{split}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS))
    return str(file.parent)


def test_a_run(tmp_path, folder):
    recipe = recipe_of(
        tmp_path / "run",
        data={"path": folder},
        optimization={"learning_rate": 1e-2},
        training={"max_steps": 40, "evaluate_every": 20},
    )
    results = train(recipe)
    found = losses(tmp_path / "run")
    assert found[40] < 0.5 * found[1]
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log if "validation_rougeL" in entry] == [20, 40]
    lines = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    assert [{name: line[name] for name in ROWS[0]} for line in lines] == ROWS
    said, summaries = [line["prediction"] for line in lines], [row["summary"] for row in ROWS]
    assert results["test"] == SummaryQuality(keep_in_memory=True).compute(predictions=said, references=summaries)
    scores = []
    for prediction, summary in zip(said, summaries, strict=True):
        given, wanted = (text.replace(",", " ").split() for text in (prediction, summary))
        scores.append(200 * len(set(given) & set(wanted)) / (len(given) + len(wanted)))  # no word is wanted twice
    assert results["test"]["rouge1"] == pytest.approx(sum(scores) / len(scores))
    assert results["test"]["rouge1"] > 30
    best = tmp_path / "run" / "best"
    assert {entry["name"] for entry in results["metrics"]} == {"rouge1", "rouge2", "rougeL", "rougeLsum", "exact_match"}
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(best), AutoTokenizer.from_pretrained(best)
    assert type(model) is trefoil.TrefoilEncoderDecoderForConditionalGeneration
    output = model.generate(**tokenizer(ROWS[0]["document"], return_tensors="pt"))
    assert tokenizer.decode(output[0], skip_special_tokens=True) == said[0]
    assert evaluate(best) == results["test"]


def test_the_metrics_of_translation_are_not_those_of_summaries():
    with pytest.raises(UserError, match="the task summarization has no such metric; there are rougeL, rouge1, rouge2"):
        reader_for(recipe_of(evaluation={"metric": "bleu"}))
    assert SUMMARIZATION.metrics[0] == "rougeL"


def ready(**changes):
    tokenizer = train_tokenizer([[*ROWS[0].values(), LONG]], TokenizerRecipe(kind="characters"), TEXT_TO_TEXT)
    config = preset_config("encoder-decoder-tiny", vocab_size=len(tokenizer), max_position_embeddings=40)
    return preprocessor_for(recipe_of(**changes), None, tokenizer, config)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"document": ""}, "column 'document' is empty"),
        ({"document": None}, "column 'document' holds None, not a text"),
        ({"summary": "\n"}, "column 'summary' is empty"),
        ({"document": LONG},
         "column 'document' has 151 tokens, more than the model's 40 (batches.truncate=true cuts)"),
        ({"summary": LONG}, "column 'summary' has 151 tokens, more than the model's 40 (batches.truncate=true cuts)"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_or_skipped_and_counted(change, problem):
    examples = datasets.Dataset.from_list([ROWS[0], ROWS[0] | change])
    with pytest.raises(UserError) as error:
        ready().encode(examples, "train.jsonl")
    assert str(error.value) == f"train.jsonl example 2: {problem}; mend it or set data.invalid_examples=skip"
    split = ready(data={"invalid_examples": "skip"}).encode(examples, "train.jsonl")
    assert split.examples["example"] == [0]
    assert (split.skipped, split.first_skipped) == (1, f"example 2, {problem}")


def test_a_long_document_is_cut_if_the_recipe_says_so():
    task = ready(batches={"truncate": True, "max_target_length": 10})
    examples = datasets.Dataset.from_list([{"document": LONG, "summary": LONG}, ROWS[0]])
    split = task.encode(examples, "train.jsonl")
    encoded = split.examples
    end = task.tokenizer.eos_token_id
    whole = task.tokenizer(LONG)["input_ids"]
    assert encoded["input_ids"] == [[*whole[:39], end], task.tokenizer(ROWS[0]["document"])["input_ids"]]
    assert encoded["labels"][0] == [*whole[:9], end]
    assert split.notes[CUT] == 3


def test_texts_to_score_are_cut_rather_than_skipped_and_so_is_what_is_generated():
    task = ready(
        data={"invalid_examples": "skip"},
        batches={"max_target_length": 30},
        evaluation={"metric": None, "max_new_tokens": None},
    )
    short = datasets.Dataset.from_list([ROWS[0]])
    scored = task.encode(
        datasets.Dataset.from_list([{"document": LONG, "summary": LONG}]), "test.jsonl", is_scored=True
    )
    assert [len(scored.examples[name][0]) for name in ("input_ids", "labels")] == [40, 30]
    assert (scored.skipped, scored.notes[CUT]) == (0, 2)
    train = task.encode(short, "train.jsonl")
    longest = len(train.examples["labels"][0])
    config = preset_config("encoder-decoder-tiny", vocab_size=len(task.tokenizer))
    assert task.generation_config(config, train).max_new_tokens == min(30, -(-3 * longest // 2))
    task.recipe.evaluation.max_new_tokens = 7
    assert task.generation_config(config, train).max_new_tokens == 7


@pytest.mark.slow
def test_the_best_of_several_references_counts(tmp_path, write):
    several = [row | {"all": ["무엇이든", row["summary"]]} for row in ROWS]
    for split, rows in {"train": ROWS, "validation": several, "test": several}.items():
        file = write(f"{split}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    recipe = recipe_of(tmp_path / "run", data={"path": str(file.parent)}, options={"references": "all"})
    results = train(recipe)
    lines = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    said = [line["prediction"] for line in lines]
    quality = SummaryQuality(keep_in_memory=True)
    assert results["test"] == quality.compute(predictions=said, references=[row["all"] for row in several])
    assert results["test"]["rouge1_signature"].endswith("|refs:best")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS, r"no column 'all', which options.references names; there are document, summary"),
        (
            [row | {"all": [] if at == 1 else ["a"]} for at, row in enumerate(ROWS)],
            r"example 2: column 'all' holds no list",
        ),
        ([row | {"all": "a"} for row in ROWS], r"example 1: column 'all' holds no list of summaries"),
    ],
)
def test_references_that_are_not_there_are_refused_before_training(tmp_path, folder, write, rows, message):
    write("validation.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    with pytest.raises(UserError, match=rf"validation.jsonl:? .*{message}"):
        train(recipe_of(tmp_path / "run", data={"path": folder}, options={"references": "all"}))
    assert not (tmp_path / "run" / "checkpoints").exists()
