"""Sentences and how likely models find them: each kind against a plain loop over its logits."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import tiny_model
from ecosystem_helpers import small_tokenizer

from trefoil.data.tokenizer import BIDIRECTIONAL, LEFT_TO_RIGHT, STREAM, train_tokenizer
from trefoil.recipes.schema import Recipe, TokenizerRecipe, build
from trefoil.tasks import get_task
from trefoil.tasks.denoising import TEMPLATES
from trefoil.tasks.preprocessor import tell_model

TEXTS = ["the cats sleep", "고양이가 잔다 🙂", "a"]
FAMILIES = {"causal-lm": "decoder", "masked-lm": "encoder", "denoising": "encoder-decoder"}
ALONE = SimpleNamespace(
    process_index=0, num_processes=1, is_main_process=True, device="cpu", reduce=lambda tensor, _: tensor
)


def scorer_for(task, accelerator=ALONE, kind="byte_bpe", options=None, **recipe):
    """Of a model with random weights, whose tokenizer makes several pieces of a word."""
    options = options or {}
    template = {"causal-lm": LEFT_TO_RIGHT, "masked-lm": BIDIRECTIONAL}.get(task)
    template = template or TEMPLATES[options.get("objective", "spans")]
    template = STREAM if options.get("documents") == "stream" and task == "causal-lm" else template
    tokenizer = train_tokenizer([TEXTS], TokenizerRecipe(kind=kind, vocab_size=400, min_frequency=9), template)
    model = tiny_model(FAMILIES[task], vocab_size=len(tokenizer))
    parts = get_task(task)
    reader = parts.reader(parts, build(Recipe, {"task": task, "options": options, **recipe}, "here"))
    tell_model(model.config, parts.preprocessor.model_fields(reader, tokenizer, model.config, {}))
    return parts.scorer(parts.preprocessor(reader, tokenizer, model.config), model, accelerator)


def log_probabilities(model, **inputs):
    """Of one row, `(positions, vocabulary)`."""
    with torch.no_grad():
        batch = {name: torch.tensor([list(map(int, ids))]) for name, ids in inputs.items()}
        return model(**batch).logits[0].log_softmax(dim=-1)


def scores(scorer, texts, contexts=None):
    return scorer.score(scorer.encode(texts, contexts))[0]


def causal(scorer, text, first, last):
    ids = [*first, *scorer.tokenizer(text, add_special_tokens=False)["input_ids"], *last]
    found = log_probabilities(scorer.model, input_ids=ids)
    return sum(found[place - 1, ids[place]].item() for place in range(1, len(ids)))


def test_of_a_document_every_token_and_the_end_are_told():
    scorer = scorer_for("causal-lm")
    first, last = [scorer.tokenizer.bos_token_id], [scorer.tokenizer.eos_token_id]
    expected = [causal(scorer, text, first, last) for text in TEXTS]
    assert scores(scorer, TEXTS) == pytest.approx(expected, abs=1e-3)


def test_a_line_of_a_stream_stands_behind_the_end_of_another():
    scorer = scorer_for("causal-lm", options={"documents": "stream"})
    newline = scorer.tokenizer("\n", add_special_tokens=False)["input_ids"]
    assert len(newline) == 1
    expected = [causal(scorer, text + "\n", newline, []) for text in TEXTS]
    assert scores(scorer, TEXTS) == pytest.approx(expected, abs=1e-3)


def test_a_masked_model_is_not_shown_what_follows_in_the_word():
    scorer = scorer_for("masked-lm")
    tokenizer, mask = scorer.tokenizer, scorer.tokenizer.mask_token_id
    for text, score in zip(TEXTS, scores(scorer, TEXTS), strict=True):
        encoding = tokenizer(text)
        ids, words = encoding["input_ids"], encoding.word_ids()
        expected = 0.0
        for place, word in enumerate(words):
            if word is None:
                continue
            row = [mask if words[at] == word and at >= place else token for at, token in enumerate(ids)]
            expected += log_probabilities(scorer.model, input_ids=row)[place, ids[place]].item()
        assert score == pytest.approx(expected, abs=1e-3)
    row = scorer.row(scorer.encode(["ab c"])[0], 0)
    assert row["input_ids"].tolist() == [tokenizer.cls_token_id, mask, mask, *tokenizer(" c")["input_ids"][1:]]


def test_a_word_is_a_span_that_is_missing_and_its_end():
    scorer = scorer_for("denoising")
    tokenizer, end = scorer.tokenizer, scorer.tokenizer.eos_token_id
    first, second = tokenizer.convert_tokens_to_ids(["<extra_id_0>", "<extra_id_1>"])
    (ab, c) = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("ab", " c"))
    expected = 0.0
    for source, word in (([first, *c, end], ab), ([*ab, first, end], c)):
        target = [first, *word, second, end]
        found = log_probabilities(
            scorer.model, input_ids=source, decoder_input_ids=[scorer.preprocessor.start, *target[:-1]]
        )
        expected += sum(found[place, target[place]].item() for place in range(1, len(word) + 2))
    assert scores(scorer, ["ab c"]) == pytest.approx([expected], abs=1e-3)


@pytest.mark.parametrize(
    ("objective", "source", "asked"),
    [
        ("infilling", "<mask> c</s>", "ab "),
        ("ul2", "[R]<extra_id_0> c</s>", "ab<extra_id_1>"),
        ("prefix", "</s>", "ab c</s>"),
    ],
)
def test_a_model_is_asked_as_its_objective_trained_it(objective, source, asked):
    scorer = scorer_for("denoising", options={"objective": objective})
    tokenizer, (sentence,) = scorer.tokenizer, scorer.encode(["ab c"])
    row = scorer.row(sentence, 0)
    assert tokenizer.decode(row["input_ids"]).replace(" ", "") == source.replace(" ", "")
    labels = np.array(row["labels"])
    assert tokenizer.decode(labels[labels != -100]) == asked
    assert row["decoder_input_ids"][0] == scorer.preprocessor.start
    assert len(row["decoder_input_ids"]) == len(labels)
    assert scorer.row_count(sentence) == (1 if objective == "prefix" else 2)
    assert np.isfinite(scores(scorer, TEXTS)).all()


@pytest.mark.parametrize("task", FAMILIES)
def test_of_a_context_nothing_is_asked(task):
    scorer = scorer_for(task)
    (given,) = scorer.encode([" sleep"], ["the cats"])
    (whole,) = scorer.encode(["the cats sleep"])
    assert given.ids == whole.ids
    asked = [token for token, word in zip(given.ids, given.words, strict=True) if word >= 0]
    end = [scorer.tokenizer.eos_token_id] if task == "causal-lm" else []
    assert asked == [*scorer.tokenizer(" sleep", add_special_tokens=False)["input_ids"], *end]
    assert scores(scorer, [" sleep"], ["the cats"])[0] > scores(scorer, ["the cats sleep"])[0]


@pytest.mark.parametrize("task", FAMILIES)
def test_scores_know_nothing_of_batches(task):
    one_by_one = scorer_for(task, evaluation={"tokens_per_batch": 1})
    texts = TEXTS * 2
    expected = scores(one_by_one, texts)
    found = scores(scorer_for(task), texts)
    assert found == pytest.approx(expected, abs=1e-3)
    assert (found[:3] == found[3:]).all()


def test_two_processes_score_a_part_each():
    parts = []
    for rank in range(2):
        accelerator = SimpleNamespace(**{**vars(ALONE), "process_index": rank, "num_processes": 2})
        scorer = scorer_for("masked-lm", accelerator, evaluation={"tokens_per_batch": 40})
        parts.append(scores(scorer, TEXTS))
    expected = scores(scorer_for("masked-lm"), TEXTS)
    assert sum(parts) == pytest.approx(expected, abs=1e-3)
    assert not np.allclose(parts[0], expected)
    assert not np.allclose(parts[1], expected)


def test_whether_the_model_would_say_it():
    scorer = scorer_for("causal-lm")
    (sentence,) = scorer.encode(["a"])
    likeliest = log_probabilities(scorer.model, input_ids=sentence.ids[:-1]).argmax(dim=-1).tolist()
    said = type(sentence)((sentence.ids[0], likeliest[0]), (-1, 0))
    assert scorer.score([sentence, said])[1].tolist() == [False, True]


@pytest.mark.parametrize("task", FAMILIES)
def test_a_sentence_that_is_too_long(task):
    scorer = scorer_for(task)
    short, *long = scorer.encode(["a b", "a" * 70, "a" * 10**7, "a " * 10**6])
    assert scorer.problem(short) is None
    for sentence in long:
        assert "tokens, more than the model's 64" in scorer.problem(sentence)


def test_what_has_no_tokens():
    scorer = scorer_for("masked-lm", kind="wordpiece")
    assert scorer.problem(scorer.encode(["\t"])[0]) == "has no tokens"


def test_one_token_a_character_is_a_word_between_spaces():
    tokenizer = small_tokenizer(TEXTS, BIDIRECTIONAL)
    assert tokenizer("ab c", add_special_tokens=False).word_ids() == [0, 0, 1, 2]
