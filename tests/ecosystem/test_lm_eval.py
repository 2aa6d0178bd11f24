"""The LM evaluation harness on the decoder: its scores are those of our logits."""

import json

import datasets
import numpy as np
import pytest
import torch
import yaml
from conftest import tiny_config
from ecosystem_helpers import small_tokenizer

import trefoil
from trefoil.data.tokenizer import STREAM, TEXT_TO_TEXT

pytest.importorskip("lm_eval")
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

ROWS = [
    {"question": "ab", "choices": ["cd", "ba", "c"], "answer": 2},
    {"question": "dcba", "choices": ["abcd", "d", "aa"], "answer": 1},
    {"question": "c", "choices": ["a", "dd", "bcb"], "answer": 1},
    {"question": "adad", "choices": ["ad", "da", "bb"], "answer": 0},
    {"question": "bbbb", "choices": ["bb", "cc", "dda"], "answer": 1},
]

TASK = {"dataset_path": "json", "test_split": "test", "doc_to_text": "{{question}}", "target_delimiter": ""}
TASKS = {
    "choice": {
        "output_type": "multiple_choice",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc"}],
    },
    "perplexity": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{question}}",
        "metric_list": [{"metric": "byte_perplexity"}],
    },
    "generation": {
        "output_type": "generate_until",
        "doc_to_target": "{{choices[answer]}}",
        "generation_kwargs": {"until": ["</s>"], "max_gen_toks": 5, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
}


@pytest.fixture
def decoder():
    """One that tells four letters apart, and their tokenizer."""
    tokenizer = small_tokenizer(["abcd"], STREAM)
    torch.manual_seed(0)
    config = tiny_config("decoder", vocab_size=len(tokenizer), initializer_range=0.2)
    return trefoil.TrefoilDecoderForCausalLM(config).eval(), tokenizer


@pytest.fixture(autouse=True)
def rows_are_cached_here(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def evaluate(model_and_tokenizer, name, folder, backend="default"):
    """The task's score and, for each row, the harness' answers."""
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "tasks").mkdir()
    task = {"task": f"trefoil_{name}", "dataset_kwargs": {"data_files": {"test": str(rows)}}} | TASK | TASKS[name]
    (folder / "tasks" / "task.yaml").write_text(yaml.safe_dump(task))
    manager = TaskManager(include_path=str(folder / "tasks"), include_defaults=False)
    model, tokenizer = model_and_tokenizer
    harness = HFLM(pretrained=model, tokenizer=tokenizer, backend=backend, batch_size=2, device="cpu")
    found = simple_evaluate(harness, tasks=[task["task"]], task_manager=manager, bootstrap_iters=0)
    (metric,) = task["metric_list"]
    answers = [sample["filtered_resps"] for sample in found["samples"][task["task"]]]
    return found["results"][task["task"]][f"{metric['metric']},none"], answers


def log_likelihood(decoder, context, continuation):
    """In nats, of the continuation's tokens, each given all before it."""
    model, tokenizer = decoder
    ids = tokenizer(context + continuation, return_tensors="pt").input_ids
    size = len(tokenizer(continuation).input_ids)
    with torch.no_grad():
        scores = model(ids).logits.log_softmax(dim=-1)
    return sum(scores[0, place - 1, ids[0, place]].item() for place in range(ids.shape[1] - size, ids.shape[1]))


def test_the_likeliest_choice(decoder, tmp_path):
    score, answers = evaluate(decoder, "choice", tmp_path)
    expected = [[log_likelihood(decoder, row["question"], choice) for choice in row["choices"]] for row in ROWS]
    for found, row in zip(answers, expected, strict=True):
        assert [value for value, _ in found] == pytest.approx(row, abs=1e-4)
    right = [np.argmax(row) == task["answer"] for row, task in zip(expected, ROWS, strict=True)]
    assert score == pytest.approx(np.mean(right))
    assert 0 < score < 1


@pytest.mark.slow
def test_perplexity(decoder, tmp_path):
    score, _ = evaluate(decoder, "perplexity", tmp_path)
    texts = [row["question"] for row in ROWS]
    total = sum(log_likelihood(decoder, "<s>", text) for text in texts)
    assert score == pytest.approx(np.exp(-total / sum(len(text) for text in texts)), rel=1e-5)


@pytest.mark.slow
def test_generated_text(decoder, tmp_path):
    _, answers = evaluate(decoder, "generation", tmp_path)
    model, tokenizer = decoder
    for (found,), row in zip(answers, ROWS, strict=True):
        prompt = tokenizer(row["question"], return_tensors="pt")
        ids = model.generate(**prompt, max_new_tokens=5, do_sample=False)[0, prompt.input_ids.shape[1] :]
        assert found == tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.slow
def test_an_encoder_decoder_is_told_apart_by_its_backend(tmp_path):
    """The harness knows which kind transformers' own model types are; of others it must be told."""
    tokenizer = small_tokenizer(["abcd"], TEXT_TO_TEXT)
    torch.manual_seed(0)
    config = tiny_config("encoder-decoder", vocab_size=len(tokenizer), initializer_range=0.2)
    model = trefoil.TrefoilEncoderDecoderForConditionalGeneration(config).eval()

    def choice_likelihood(source, target):
        ids = tokenizer(text_target=target, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.no_grad():
            scores = model(**tokenizer(source, return_tensors="pt"), labels=ids).logits.log_softmax(dim=-1)
        return scores.gather(-1, ids[..., None]).sum().item()

    _, answers = evaluate((model, tokenizer), "choice", tmp_path, backend="seq2seq")
    for found, row in zip(answers, ROWS, strict=True):
        expected = [choice_likelihood(row["question"], choice) for choice in row["choices"]]
        assert [value for value, _ in found] == pytest.approx(expected, abs=1e-4)
