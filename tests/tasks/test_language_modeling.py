"""How text becomes rows of tokens, and what language models are scored on."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from task_parts import evaluator_for, preprocessor_for, reader_for
from training_runs import TINY_MODEL
from transformers import AutoModelForCausalLM

from trefoil.configuration.errors import UserError
from trefoil.configuration.presets import preset_config
from trefoil.data import packing
from trefoil.data.packing import BestFitRows, PackedRows
from trefoil.data.tokenizer import BIDIRECTIONAL, LEFT_TO_RIGHT, train_tokenizer
from trefoil.modeling.losses import labelled
from trefoil.recipes.schema import Recipe, TokenizerRecipe, build, validate
from trefoil.tasks.language_modeling import positions_within
from trefoil.training.run import evaluate, train

TEXTS = ["나는 학교에 간다", "hello world", "a b c d e f g h i j k l m n o p q r s t u v w x y z", "🙂🙂"]
PRESETS = {"causal-lm": "decoder-tiny", "masked-lm": "encoder-tiny"}


def recipe(folder, task, **changes):
    content = {
        "task": task,
        "output_dir": str(folder / "run"),
        "data": {"path": str(folder / "data")},
        "tokenizer": {"kind": "characters"},
        "model": {
            "preset": PRESETS[task],
            "config": {**TINY_MODEL, "max_position_embeddings": 16, "hidden_dropout": 0.0},
        },
        "batches": {"tokens_per_batch": 64},
        "training": {"max_steps": 12, "evaluate_every": 6, "trackers": []},
        **changes,
    }
    made = build(Recipe, content, "tiny.yaml")
    validate(made, "tiny.yaml")
    return made


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    for split in ("train", "validation", "test"):
        (tmp_path / "data" / f"{split}.txt").write_text("\n".join(TEXTS * 5) + "\n", encoding="utf-8")
    return tmp_path


def parts_of(folder, name, texts=TEXTS, **changes):
    """What makes batches of texts, and their rows."""
    template = BIDIRECTIONAL if name == "masked-lm" else LEFT_TO_RIGHT
    tokenizer = train_tokenizer(iter([texts]), TokenizerRecipe(kind="characters", min_frequency=1), template)
    config = preset_config(PRESETS[name], vocab_size=len(tokenizer), max_position_embeddings=16)
    examples = Dataset.from_dict({"text": texts})
    return preprocessor_for(recipe(folder, name, **changes), examples, tokenizer, config), examples


def test_positions_start_again_with_each_document():
    assert positions_within(torch.tensor([[3, 3, 4, 4, 4, -1]])).tolist() == [[0, 1, 0, 1, 2, 0]]


def test_documents_are_delimited_and_predict_themselves_only(folder):
    parts, examples = parts_of(folder, "causal-lm")
    encoded = parts.encode(examples, "here").examples
    flat = {name: np.concatenate(values).tolist() for name, values in encoded[:].items()}
    for number, text in enumerate(TEXTS):
        inputs = [token for token, of in zip(flat["input_ids"], flat["sequence_ids"], strict=True) if of == number]
        labels = [token for token, of in zip(flat["labels"], flat["sequence_ids"], strict=True) if of == number]
        ids = parts.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert inputs == [parts.tokenizer.bos_token_id, *ids]
        assert labels == [*ids, parts.tokenizer.eos_token_id]


def test_a_stream_is_the_text_itself(folder):
    parts, examples = parts_of(folder, "causal-lm", [*TEXTS, "", "\n"], options={"documents": "stream"})
    encoded = parts.encode(examples, "here").examples
    inputs = [token for row in encoded[:]["input_ids"] for token in row]
    labels = [token for row in encoded[:]["labels"] for token in row]
    text = "\n".join([*TEXTS, "", ""]) + "\n"
    assert inputs[1:] == labels[:-1]
    assert parts.tokenizer.decode(inputs + labels[-1:]) == text
    batch = parts.collate(encoded[:2])
    assert batch.keys() == {"input_ids", "labels", "shift_labels"}  # nothing to keep apart


def test_masks_differ_between_epochs_and_depend_on_nothing_else(folder):
    parts, examples = parts_of(folder, "masked-lm", TEXTS * 50)
    encoded = parts.encode(examples, "here").examples
    indices = np.arange(len(encoded))
    masked = [parts.randomize(encoded[indices], indices, epoch) for epoch in (0, 0, 1)]
    as_lists = [[row.tolist() for row in epoch["input_ids"]] for epoch in masked]
    assert as_lists[0] == as_lists[1] != as_lists[2]
    alone = parts.randomize(encoded[indices[3:4]], indices[3:4], 0)
    assert alone["input_ids"][0].tolist() == as_lists[0][3]
    before = np.concatenate([np.array(row) for row in encoded[:]["input_ids"]])
    words = np.concatenate([np.array(row) for row in encoded[:]["word_ids"]])
    inputs, labels = (np.concatenate(masked[0][name]) for name in ("input_ids", "labels"))
    chosen = labels != -100
    assert (labels[chosen] == before[chosen]).all()
    assert (inputs[~chosen] == before[~chosen]).all()
    assert not chosen[words < 0].any()
    assert chosen[words >= 0].mean() == pytest.approx(0.15, abs=0.02)
    hidden = inputs[chosen] == parts.tokenizer.mask_token_id
    assert hidden.mean() == pytest.approx(0.8, abs=0.05)
    assert (inputs[chosen] == labels[chosen]).mean() == pytest.approx(0.1, abs=0.04)


def test_of_a_word_all_tokens_are_masked_or_none(folder):
    parts, examples = parts_of(folder, "masked-lm", TEXTS * 10, options={"whole_word": True, "probability": 0.3})
    encoded = parts.encode(examples, "here").examples
    indices = np.arange(len(encoded))
    labels = parts.randomize(encoded[indices], indices, 0)["labels"]
    some = 0
    for of_row, words, documents in zip(labels, encoded[:]["word_ids"], encoded[:]["sequence_ids"], strict=True):
        for word in set(zip(documents, words, strict=True)):
            chosen = {
                bool(label != -100)
                for label, *place in zip(of_row, documents, words, strict=True)
                if tuple(place) == word
            }
            assert len(chosen) == 1
            some += chosen == {True}
    assert some


@pytest.mark.parametrize("whole_word", [False, True])
def test_the_rounds_of_an_evaluation_mask_every_token_once(folder, whole_word):
    parts, examples = parts_of(folder, "masked-lm", TEXTS * 3, options={"whole_word": whole_word})
    encoded = parts.encode(examples, "here").examples
    indices = np.arange(len(encoded))
    rounds = [parts.mask_round(number, encoded[indices], indices) for number in range(parts.rounds)]
    assert parts.rounds == 7
    for row, words in enumerate(encoded[:]["word_ids"]):
        times = sum(np.array(masked["labels"][row]) != -100 for masked in rounds)
        assert times.tolist() == [int(word >= 0) for word in words]


@pytest.mark.parametrize("name", PRESETS)
def test_an_empty_text_is_named_or_skipped_and_counted(folder, name):
    parts, _ = parts_of(folder, name)
    rows = Dataset.from_dict({"text": ["a", " ", None]})
    with pytest.raises(
        UserError, match=r"here example 2: column 'text' is empty; mend it or set data.invalid_examples"
    ):
        parts.encode(rows, "here")
    parts.recipe.data.invalid_examples = "skip"
    split = parts.encode(rows, "here", is_scored=True)
    assert (split.skipped, split.rows["text"]) == (2, ["a"])
    assert parts.token_count(split.examples) == len(parts.document_ids(["a"])[0]["input_ids"]) - parts.shifted


@pytest.mark.parametrize(
    ("name", "documents"),
    [
        ("causal-lm", "stream"),
        ("masked-lm", "row"),
        pytest.param("causal-lm", "row", marks=pytest.mark.slow),
        pytest.param("masked-lm", "stream", marks=pytest.mark.slow),
    ],
)
def test_a_run_learns_and_is_scored_alike_afterwards(folder, name, documents):
    results = train(recipe(folder, name, options={"documents": documents}))
    assert results["test"]["word_perplexity"] > results["test"]["perplexity"] > 1
    again = evaluate(folder / "run" / "best")
    assert again == pytest.approx(results["test"])


def test_overlapping_rows_score_as_many_tokens(folder):
    train(recipe(folder, "causal-lm"))
    whole = evaluate(folder / "run" / "best")
    overlapping = evaluate(folder / "run" / "best", ["options.stride=4"])
    assert overlapping["loss"] != whole["loss"]
    ratio = np.log(overlapping["word_perplexity"]) / overlapping["loss"]
    assert ratio == pytest.approx(np.log(whole["word_perplexity"]) / whole["loss"])


def test_labels_of_a_batch_are_counted(folder):
    parts, examples = parts_of(folder, "causal-lm")
    encoded = parts.encode(examples, "here").examples
    batch = parts.collate(encoded[:])
    assert int(labelled(batch["labels"]).sum()) == sum(map(len, encoded[:]["labels"]))
    assert (batch["sequence_ids"] == -1).any()


def test_a_tokenizer_of_a_stream_learns_the_line_breaks_that_encoding_adds(folder):
    made = recipe(folder, "causal-lm", options={"documents": "stream"})
    examples = Dataset.from_dict({"text": TEXTS})
    tokenizer = train_tokenizer(reader_for(made).texts(examples), made.tokenizer, LEFT_TO_RIGHT)
    config = preset_config("decoder-tiny", vocab_size=len(tokenizer), max_position_embeddings=16)
    parts = preprocessor_for(made, examples, tokenizer, config)
    assert parts.unknown_share(parts.encode(examples, "here").examples) == 0
    assert "\n" in tokenizer.get_vocab()


def test_an_evaluation_with_a_stride_encodes_nothing_again(folder):
    parts, examples = parts_of(folder, "causal-lm", options={"stride": 4})
    model = AutoModelForCausalLM.from_config(
        preset_config("decoder-tiny", vocab_size=len(parts.tokenizer), max_position_embeddings=16)
    ).eval()
    evaluator = evaluator_for(parts, examples)
    parts.tokenizer = SimpleNamespace(pad_token_id=parts.tokenizer.pad_token_id)
    whole, overlapping = (evaluator.evaluate(model, final=final) for final in (False, True))
    assert overlapping["loss"] != whole["loss"]
    assert evaluator.evaluate(model, final=True) == overlapping


def test_a_stride_must_be_positive_and_a_text_must_have_something_to_predict(folder):
    with pytest.raises(UserError, match=r"options\.stride=0 must be positive"):
        parts_of(folder, "causal-lm", options={"stride": 0})
    parts, _ = parts_of(folder, "causal-lm", options={"documents": "stream"})
    with pytest.raises(UserError, match="here: no valid example is left of 1; the text is too short: there is nothing"):
        parts.encode(Dataset.from_dict({"text": [""]}), "here")


@pytest.mark.parametrize("name", ["causal-lm", "masked-lm"])
def test_best_fit_is_of_what_is_trained_on_and_not_of_what_is_scored(folder, name, monkeypatch):
    parts, rows = parts_of(folder, name, options={"packing": "best_fit"})
    split = parts.encode(rows, "here")
    monkeypatch.setattr(packing, "best_fit", None)  # another start finds them
    again = parts_of(folder, name, options={"packing": "best_fit"})[0].encode(rows, "here")
    assert again.remarks() == split.remarks()
    assert isinstance(split.examples, BestFitRows)
    assert any(line.startswith("here: best-fit packing: ") for line in split.remarks())
    indices = np.arange(len(split.examples))
    found = parts.collate(parts.randomize(split.examples[indices], indices, 0))
    wrapped = parts_of(folder, name)[0].encode(rows, "here").examples
    assert (found["sequence_ids"] >= 0).sum() == wrapped.places
    assert isinstance(parts.encode(rows, "here", is_scored=True).examples, PackedRows)


def test_one_running_text_is_not_packed_by_documents(folder):
    with pytest.raises(UserError, match=r"packing=best_fit is for documents; options.documents=stream is one"):
        reader_for(recipe(folder, "causal-lm", options={"packing": "best_fit", "documents": "stream"}))
