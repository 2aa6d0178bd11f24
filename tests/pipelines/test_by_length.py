"""Texts go through a pipeline by length, and come back in their order."""

import pytest
from conftest import SMALL
from transformers import pipeline

import trefoil
from trefoil.data.tokenizer import BIDIRECTIONAL, train_tokenizer
from trefoil.pipelines.by_length import predict_by_length
from trefoil.recipes.schema import TokenizerRecipe

TEXTS = ["하나", "one two three four five six seven", "two 🙂", "three four", "", "five six seven eight nine", "ten"]


@pytest.fixture(scope="module")
def pipes():
    tokenizer = train_tokenizer([TEXTS] * 20, TokenizerRecipe(vocab_size=300), BIDIRECTIONAL)
    config = trefoil.TrefoilEncoderConfig(**SMALL | {"vocab_size": len(tokenizer)}, num_labels=3)
    return {
        "text-classification": pipeline(
            "text-classification", trefoil.TrefoilEncoderForSequenceClassification(config).eval(), tokenizer=tokenizer
        ),
        "token-classification": pipeline(
            "token-classification", trefoil.TrefoilEncoderForTokenClassification(config).eval(), tokenizer=tokenizer
        ),
    }


def close(found, expected):
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    return found | {"score": 0} == expected | {"score": 0} and found["score"] == pytest.approx(
        expected["score"], abs=1e-5
    )


@pytest.mark.parametrize("task", ["text-classification", "token-classification"])
@pytest.mark.parametrize("tokens", [1, 12, 1000])
def test_answers_are_those_of_one_text_at_a_time(pipes, task, tokens):
    assert close(predict_by_length(pipes[task], TEXTS, tokens), pipes[task](TEXTS))


def test_options_reach_the_pipeline(pipes):
    answers = predict_by_length(pipes["text-classification"], TEXTS, top_k=2, batch_size=1)
    assert [len(answer) for answer in answers] == [2] * len(TEXTS)


def test_pairs(pipes):
    pairs = [{"text": text, "text_pair": other} for text, other in zip(TEXTS, TEXTS[::-1], strict=True)]
    assert close(predict_by_length(pipes["text-classification"], pairs), pipes["text-classification"](pairs))


def test_words(pipes):
    words, options = [text.split() for text in TEXTS if text], {"is_split_into_words": True}
    assert close(
        predict_by_length(pipes["token-classification"], words, **options),
        pipes["token-classification"](words, **options),
    )


def test_nothing(pipes):
    assert predict_by_length(pipes["text-classification"], []) == []


def test_batches_hold_texts_of_like_length_and_no_more_tokens_than_asked_for(pipes):
    pipe, seen = pipes["text-classification"], []

    def watched(texts, batch_size):
        assert batch_size >= len(texts)
        seen.append([len(pipe.tokenizer(text)["input_ids"]) for text in texts])
        return [{"text": text} for text in texts]

    watched.tokenizer = pipe.tokenizer
    texts = [text for text in TEXTS for _ in range(3)]
    assert [answer["text"] for answer in predict_by_length(watched, texts, 40)] == texts
    lengths = [length for batch in seen for length in batch]
    assert lengths == sorted(lengths, reverse=True)
    assert all(len(batch) == 1 or max(batch) * len(batch) <= 40 for batch in seen)
    assert len(seen) < len(texts)
