"""Token dropout; and lines of megabytes: each task refuses, skips, cuts or reads them, and what must be short is not
tokenized whole."""

import datasets
import numpy as np
import pytest
from conftest import seldom
from task_parts import preprocessor_for, reader_for
from training_runs import TINY_MODEL

from trefoil.configuration.errors import UserError
from trefoil.configuration.presets import preset_config
from trefoil.data.tokenizer import train_tokenizer
from trefoil.recipes.schema import Recipe, TokenizerRecipe, build, validate
from trefoil.tasks.preprocessor import CUT

MEGABYTES = 4_000_000
WORD = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
TEXT = f"{WORD} " * (MEGABYTES // (len(WORD.encode()) + 1))
DOCUMENT = TEXT[: len(TEXT) // 2].rpartition(" ")[0]  # read in windows, not at once: two megabytes are enough
LINES = {"words": TEXT, "no space": "가" * (MEGABYTES // 3)}
FAMILIES = {"causal-lm": "decoder", "translation": "encoder-decoder", "summarization": "encoder-decoder"}


def ready(name, examples, kind="characters", **changes):
    """What encodes, for a model that knows the examples, with a tokenizer of characters, or one where the word is a token."""
    preset = f"{FAMILIES.get(name, 'encoder')}-tiny"
    content = {
        "task": name,
        "data": {"path": "data"},
        "model": {"preset": preset, "config": dict(TINY_MODEL)},
        "training": {"max_steps": 1},
    }
    recipe = build(Recipe, content | changes, "tiny.yaml")
    validate(recipe, "tiny.yaml")
    sizes = {} if kind == "characters" else {"vocab_size": 332 + reader_for(recipe).template.mask, "min_frequency": 1}
    trained = TokenizerRecipe(kind=kind, **sizes)
    tokenizer = train_tokenizer([f"{WORD} {WORD} a 가 b"], trained, reader_for(recipe).template)
    return preprocessor_for(
        recipe, examples, tokenizer, preset_config(preset, vocab_size=len(tokenizer), max_position_embeddings=96)
    )


SHORT = {
    "text-classification": [{"text": "a", "label": "a"}, {"text": "b", "label": "b"}],
    "translation": [{"source": "a", "target": "b"}],
    "summarization": [{"source": "a", "target": "b"}],
    "question-answering": [{"question": "a", "context": "b", "answers": {"text": ["b"], "answer_start": [0]}}],
}
COLUMNS = [
    ("text-classification", "text"),
    ("translation", "source"),
    ("translation", "target"),
    ("summarization", "source"),
    ("question-answering", "question"),
]


@pytest.mark.parametrize("line", seldom(LINES, "no space"))
@pytest.mark.parametrize(
    ("name", "column"), [*COLUMNS[:2], *(pytest.param(*pair, marks=pytest.mark.slow) for pair in COLUMNS[2:])]
)
def test_a_line_of_megabytes_is_refused_skipped_or_cut(name, column, line):
    examples = datasets.Dataset.from_list([*SHORT[name], SHORT[name][0] | {column: LINES[line]}])
    number = len(examples)
    task = ready(name, examples)
    with pytest.raises(
        UserError, match=rf"^train example {number}: .* tokens.* more than .*batches.truncate=true cuts"
    ) as error:
        task.encode(examples, "train")
    assert len(str(error.value)) < 250
    task = ready(name, examples, data={"path": "data", "invalid_examples": "skip"})
    split = task.encode(examples, "train")
    assert split.examples["example"] == list(range(number - 1))
    assert split.skipped == 1
    task = ready(name, examples, batches={"truncate": True})
    split = task.encode(examples, "train")
    assert task.lengths(split.examples).max() <= 96
    assert split.notes[CUT] == 1


@pytest.mark.parametrize(("name", "special"), [pytest.param("causal-lm", 1, marks=pytest.mark.slow), ("masked-lm", 2)])
def test_a_language_model_reads_a_line_of_megabytes_in_rows(name, special):
    examples = datasets.Dataset.from_list([{"text": TEXT}, {"text": "a"}])
    task = ready(name, examples, kind="byte_bpe")
    encoded = task.encode(examples, "train").examples
    lengths = task.lengths(encoded)
    assert lengths.sum() == (len(TEXT.split()) + 1 + special) + (1 + special)  # words and a last space; and one letter
    assert set(lengths[:-1, 0]) == {96}


def test_tags_of_megabytes_are_read_in_windows():
    words = DOCUMENT.split()
    examples = datasets.Dataset.from_list([{"tokens": words, "tags": ["B-X"] * len(words)}])
    task = ready("token-classification", examples, kind="byte_bpe")
    encoded = task.encode(examples, "train").examples
    assert sum(token >= 0 for row in encoded["represented"] for token in row) == len(words)
    assert task.lengths(encoded).max() <= 96


def test_a_context_of_megabytes_is_read_in_windows():
    answers = {"text": [WORD], "answer_start": [DOCUMENT.rindex(WORD)]}
    examples = datasets.Dataset.from_list([{"question": "a", "context": DOCUMENT, "answers": answers}])
    task = ready("question-answering", examples, kind="byte_bpe")
    encoded = task.encode(examples, "train").examples
    assert len(encoded) > 500
    assert encoded["start_positions"][-1] > 0
    assert not any(encoded["start_positions"][:-2])
    assert task.lengths(encoded).max() <= 96


LETTERS = {
    "text-classification": [{"text": "a b " * 20, "label": name} for name in "abc" * 20],
    "translation": [{"source": "a b " * 20, "target": "b a"}] * 60,
    "causal-lm": [{"text": "a b " * 20}] * 60,
}


@pytest.mark.parametrize("name", LETTERS)
def test_tokens_of_the_source_are_hidden_others_in_each_epoch(name):
    task = ready(name, datasets.Dataset.from_list(LETTERS[name]), batches={"token_dropout": 0.3})
    examples, indices = task.encode(datasets.Dataset.from_list(LETTERS[name]), "train").examples, np.arange(40)
    rows = examples[indices]
    first, again, later = (task.randomize(rows, indices, epoch) for epoch in (0, 0, 1))
    alone = task.randomize(examples[indices[5:6]], indices[5:6], 0)["input_ids"][0]
    before, ids, same, other = (np.concatenate(one["input_ids"]) for one in (rows, first, again, later))
    assert (ids == same).all()
    assert (ids != other).any()
    assert (first["input_ids"][5] == alone).all()
    tokenizer = task.tokenizer
    hidden = tokenizer.unk_token_id if tokenizer.mask_token_id is None else tokenizer.mask_token_id
    assert set(ids[ids != before]) == {hidden}
    is_special = np.isin(before, tokenizer.all_special_ids)
    assert (ids == before)[is_special].all()
    assert (ids != before)[~is_special].mean() == pytest.approx(0.3, abs=0.05)
    assert (np.hstack(rows["labels"]) == np.hstack(first["labels"])).all()
    assert task.collate(first)["input_ids"].shape == task.collate(rows)["input_ids"].shape


def test_token_dropout_that_cannot_be_is_refused():
    examples = datasets.Dataset.from_list(SHORT["translation"])
    with pytest.raises(UserError, match=r"needs a mask or an unknown token, and this tokenizer has neither; .*unigram"):
        ready("translation", examples, kind="byte_bpe", batches={"token_dropout": 0.1})
    with pytest.raises(UserError, match=r"batches.token_dropout is not for the task masked-lm; leave it out"):
        ready("masked-lm", datasets.Dataset.from_list([{"text": "a"}]), batches={"token_dropout": 0.1})
