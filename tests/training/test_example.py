"""The row that shows what a model is asked."""

import datasets
import pytest
from task_parts import reader_for

from trefoil.recipes.schema import Recipe, build
from trefoil.tasks import TASKS
from trefoil.training.example import LONGEST, find_example

ANSWERS = {"text": ["Ada"], "answer_start": [0]}
# task, the recipe's data and options, a row -> what is asked
CASES = {
    "text-classification": ({}, {}, {"text": "So good", "label": "a"}, {"text": "So good"}),
    "pairs": (
        {"columns": {"text": "one", "text_pair": "other"}},
        {},
        {"one": "A", "other": "B", "label": "a"},
        {"text": "A", "text_pair": "B"},
    ),
    "token-classification": (
        {},
        {},
        {"tokens": ["Ada", "lives"], "tags": ["B-PER", "O"]},
        {"text": "Ada lives"},
    ),
    "question-answering": (
        {"columns": {"question": "q"}},
        {},
        {"q": "Who?", "context": "Ada did.", "answers": ANSWERS},
        {"question": "Who?", "context": "Ada did."},
    ),
    "translation": ({}, {}, {"source": "Hallo", "target": "Hello"}, {"text": "Hallo"}),
    "several directions": (
        {},
        {"directions": [["en", "de"], ["de", "en"]]},
        {"de": "Hallo", "en": "Hello"},
        {"text": "Hallo"},
    ),
    "summarization": (
        {"columns": {"source": "article"}},
        {},
        {"article": "Long.", "target": "Short."},
        {"text": "Long."},
    ),
    "causal-lm": ({}, {}, {"text": "Once upon"}, {"text": "Once upon"}),
    "masked-lm": ({}, {}, {"text": "Once upon"}, {"text": "Once upon"}),
    "denoising": ({"columns": {"other_text": "other"}}, {}, {"text": "Once", "other": "More"}, {"text": "Once"}),
    "image-captioning": ({}, {}, {"image": "a.png", "text": "a dog"}, None),
}
TASK_OF = {"pairs": "text-classification", "several directions": "translation"}


def reader_of(case, **more):
    data, options, *_ = CASES[case]
    content = {
        "task": TASK_OF.get(case, case),
        "language": ["de"],
        "data": {"path": "x", **data},
        "options": options,
        **more,
    }
    return reader_for(build(Recipe, content, "r"))


def rows_of(case, *changes):
    row = CASES[case][2]
    return datasets.Dataset.from_list([row | change for change in changes or [{}]])


@pytest.mark.parametrize("case", CASES)
def test_of_each_task_it_is_what_the_model_is_asked(case):
    other = {name: f"{value} too" for name, value in CASES[case][2].items() if isinstance(value, str)}
    other = other or {"tokens": ["Bo", "lives"]}
    assert find_example(reader_of(case), rows_of(case, other), rows_of(case)) == CASES[case][3]


def test_every_task_has_a_case():
    assert {TASK_OF.get(case, case) for case in CASES} == TASKS.keys()


@pytest.mark.parametrize("case", [case for case in CASES if CASES[case][3]])
def test_what_was_trained_on_is_not_shown(case):
    assert find_example(reader_of(case), rows_of(case), rows_of(case)) is None


@pytest.mark.parametrize(
    ("lengths", "chosen"),
    [
        ([9, 1, 50, 200, 3], 9),  # the middle one
        ([9, 1, 400, 500, 600], 9),  # of those that are short
        ([900, 400, 500], 400),  # or the shortest
        ([LONGEST + 1], None),
        ([0, 5], 5),
    ],
)
def test_it_is_of_middle_length_and_short(lengths, chosen):
    rows = rows_of("text-classification", *({"text": "a" * length or " "} for length in lengths))
    found = find_example(reader_of("text-classification"), rows_of("text-classification"), rows)
    assert found == (None if chosen is None else {"text": "a" * chosen})


def test_of_a_document_it_is_the_beginning():
    rows = rows_of("causal-lm", {"text": "\n" + "word and " * 1000})
    (text,) = find_example(reader_of("causal-lm"), rows_of("causal-lm"), rows).values()
    assert 80 < len(text) <= 100
    assert text.startswith("word and ")
    assert text.split()[-1] in ("word", "and")
