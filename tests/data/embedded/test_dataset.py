import hashlib
import json
import os
import subprocess
import sys
from random import Random

import pytest
from datasets import ClassLabel

from trefoil.data.embedded import DEFAULT_SIZES, ENTITY_LABELS, TOPICS, grammar, load_embedded, token_spans
from trefoil.data.embedded.dataset import split_of
from trefoil.data.embedded.grammar import draw

SIZES = {"train": 1_000, "validation": 500, "test": 500}
# A change of this value changes everyone's data: make it deliberately.
FIRST_HUNDRED = "7a03e7a5089c2371acfe0d97e0c86fe20b98923a6eb850c8314797454b10423a"
LONGER_TASKS = {
    "question-answering": "a95de0e39aaa327903cfc8b9493c0e6bf77dde48810a814e65a672b5872a612d",
    "summarization": "2139c8329db593f970f8cea99f975d83d68891396068e9c3830858645a8acbd3",
}


@pytest.fixture(scope="module")
def translation():
    return load_embedded("translation", sizes=SIZES)


def first_hundred() -> str:
    rows = load_embedded("translation", sizes={"train": 100})["train"]
    return hashlib.sha256("\n".join(f"{row['id']}\t{row['ko']}\t{row['en']}" for row in rows).encode()).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("task", ["translation", "question-answering", "summarization"])
def test_the_default_sizes(task):
    splits = load_embedded(task)
    assert {split: rows.num_rows for split, rows in splits.items()} == DEFAULT_SIZES


def test_translation_columns(translation):
    for split, rows in translation.items():
        assert rows.column_names == ["id", "ko", "en"]
        assert rows.num_rows == SIZES[split] == len(set(rows["id"])) == len(set(rows["ko"]))
        assert str(rows.split) == split
        assert not rows.cache_files


def test_token_classification_columns(translation):
    splits = load_embedded("token-classification", sizes=SIZES)
    allowed = {"O"} | {f"{prefix}-{label}" for prefix in "BI" for label in ENTITY_LABELS}
    seen = set()
    for split, rows in splits.items():
        assert rows.column_names == ["id", "tokens", "ner_tags", "text", "entities"]
        assert rows["text"][:] == translation[split]["ko"][:]
        for row in rows:
            assert row["tokens"] == [row["text"][start:end] for start, end in token_spans(row["text"])]
            assert len(row["tokens"]) == len(row["ner_tags"])
            seen |= set(row["ner_tags"])
            assert _entities_of(row) == [
                (entity["label"], row["text"][entity["start"] : entity["end"]].replace(" ", ""))
                for entity in row["entities"]
            ]
    assert seen == allowed - {"I-PER", "I-LOC"}


def _entities_of(row: dict) -> list[tuple[str, str]]:
    """Read the entities back from the tags alone."""
    entities: list[tuple[str, str]] = []
    for token, tag in zip(row["tokens"], row["ner_tags"], strict=True):
        if tag.startswith("B-"):
            entities.append((tag[2:], token))
        elif tag.startswith("I-"):
            assert entities[-1][0] == tag[2:]
            entities[-1] = (tag[2:], entities[-1][1] + token)
    return entities


def test_text_classification_columns(translation):
    splits = load_embedded("text-classification", sizes=SIZES)
    for split, rows in splits.items():
        assert rows.column_names == ["id", "text", "label"]
        assert rows.features["label"] == ClassLabel(names=list(TOPICS))
        assert rows["text"][:] == translation[split]["ko"][:]
    labels = splits["train"]["label"]
    counts = [labels[:].count(label) for label in range(len(TOPICS))]
    assert min(counts) > 0.07 * SIZES["train"]


def test_question_answering_columns():
    splits = load_embedded("question-answering", sizes=SIZES)
    texts = load_embedded("translation", sizes=SIZES, clauses=(2, 4))
    for split, rows in splits.items():
        assert rows.column_names == ["id", "context", "question", "answers"]
        assert rows.num_rows == SIZES[split] == len(set(rows["context"]))
        assert rows["context"][:] == texts[split]["ko"][:]
        for row in rows:
            assert len(row["answers"]["text"]) == len(row["answers"]["answer_start"]) <= 1
            for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True):
                assert row["context"][start : start + len(text)] == text
        unanswered = sum(not answers["text"] for answers in rows["answers"])
        assert unanswered / rows.num_rows == pytest.approx(0.1, abs=0.04)
    assert {text.count("그리고") + 1 for text in splits["train"]["context"]} == {2, 3, 4}


def test_summarization_columns():
    splits = load_embedded("summarization", sizes=SIZES)
    for split, rows in splits.items():
        assert rows.column_names == ["id", "document", "summary"]
        assert rows.num_rows == SIZES[split] == len(set(rows["document"]))
        assert all(rows["summary"])
        assert not any("\n" in summary for summary in rows["summary"])
    train = splits["train"]
    clauses = [text.count("그리고") + 1 for text in train["document"]]
    assert set(clauses) == {3, 4, 5}
    items = [summary.count(" / ") + 1 for summary in train["summary"]]
    shares = [kept / of for kept, of in zip(items, clauses, strict=True)]
    assert max(shares) <= 1
    assert 0.4 < sum(shares) / len(shares) < 0.7, "about half of the clauses are selected"


def test_single_clauses_do_for_every_task():
    for task in ("question-answering", "summarization"):
        rows = load_embedded(task, sizes={"train": 200}, clauses=(1, 1))["train"]
        assert not any("그리고" in text for text in rows["context" if task == "question-answering" else "document"])


@pytest.mark.parametrize(("task", "text"), [("question-answering", "context"), ("summarization", "document")])
def test_longer_tasks_keep_the_promises_of_the_others(task, text):
    sizes = {"train": 300, "validation": 40, "test": 40}
    splits, again, other_seed = (load_embedded(task, seed=seed, sizes=sizes) for seed in (0, 0, 1))
    assert all(splits[split].to_list() == again[split].to_list() for split in sizes)
    assert splits["train"].to_list() != other_seed["train"].to_list()
    small = load_embedded(task, sizes={"test": 20})
    assert small["test"].to_list() == splits["test"].select(range(20)).to_list()
    texts = {split: {*splits[split][text], *other_seed[split][text]} for split in sizes}
    assert not texts["train"] & texts["validation"]
    assert not texts["train"] & texts["test"]
    assert not texts["validation"] & texts["test"]


@pytest.mark.parametrize(("task", "pinned"), LONGER_TASKS.items())
def test_the_data_of_longer_tasks_is_pinned(task, pinned):
    rows = load_embedded(task, sizes={"train": 100})["train"].to_list()
    assert hashlib.sha256(json.dumps(rows, ensure_ascii=False, sort_keys=True).encode()).hexdigest() == pinned


def test_splits_share_no_text_and_no_translation(translation):
    other_seed = load_embedded("translation", seed=1, sizes=SIZES)
    for column in ("ko", "en"):
        train = set(translation["train"][column]) | set(other_seed["train"][column])
        validation = set(translation["validation"][column]) | set(other_seed["validation"][column])
        test = set(translation["test"][column]) | set(other_seed["test"][column])
        assert not train & validation
        assert not train & test
        assert not validation & test
    for split, rows in translation.items():
        assert {split_of(english) for english in rows["en"]} == {split}


def test_a_smaller_size_is_a_prefix_and_splits_do_not_depend_on_each_other(translation):
    small = load_embedded("translation", sizes={"test": 50, "train": 70})
    assert list(small) == ["test", "train"]
    assert small["test"].to_list() == translation["test"].select(range(50)).to_list()
    assert small["train"].to_list() == translation["train"].select(range(70)).to_list()


def test_seeds_differ():
    texts = {tuple(load_embedded("translation", seed=seed, sizes={"test": 20})["test"]["ko"]) for seed in (-1, 0, 1)}
    assert len(texts) == 3


def test_the_data_is_pinned():
    assert first_hundred() == FIRST_HUNDRED


def test_the_data_does_not_depend_on_the_process():
    texts = "[draw(Random(5), (1, 3))] + [draw(Random(seed)) for seed in range(300)]"
    # The grammar needs the standard library alone: loading it without its package saves importing torch.
    script = (
        "import sys, types; from random import Random; package = types.ModuleType('embedded');"
        f"package.__path__ = [{os.path.dirname(grammar.__file__)!r}]; sys.modules['embedded'] = package;"
        f"from embedded.grammar import draw; print(ascii({texts}))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ascii([draw(Random(5), (1, 3))] + [draw(Random(seed)) for seed in range(300)])


def test_clauses_dial_the_length():
    for least, most in [(1, 1), (2, 4), (8, 8)]:
        rows = load_embedded("translation", sizes={"train": 200}, clauses=(least, most))["train"]
        counts = {text.count("그리고") + 1 for text in rows["ko"]}
        assert counts == set(range(least, most + 1))
        assert counts == {text.count(" And ") + 1 for text in rows["en"]}


def test_an_empty_split_keeps_its_columns():
    rows = load_embedded("token-classification", sizes={"train": 0})["train"]
    assert rows.num_rows == 0
    assert rows.column_names == ["id", "tokens", "ner_tags", "text", "entities"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"task": "summary"},
            "unknown task 'summary': choose one of translation, .*, question-answering, summarization",
        ),
        ({"sizes": {"dev": 1}}, "unknown split 'dev' in sizes: choose among train, validation, test"),
        ({"sizes": {"train": -1}}, r"sizes\['train'\]=-1: give an integer from 0 to 1,000,000"),
        ({"sizes": {"test": 100_001}}, r"sizes\['test'\]=100001: give an integer from 0 to 100,000"),
        ({"sizes": {"train": 2.5}}, r"sizes\['train'\]=2.5: give an integer"),
        ({"clauses": (0, 1)}, r"clauses=\(0, 1\) .* 1 <= least <= most"),
        ({"clauses": (3, 2)}, r"clauses=\(3, 2\)"),
        ({"seed": "0"}, "seed='0' is not an integer"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_embedded(**{"task": "translation", **arguments})
