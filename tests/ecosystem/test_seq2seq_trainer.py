"""transformers' own `Seq2SeqTrainer` on the encoder-decoder, measured by what it generates."""

import numpy as np
import pytest
import torch
from conftest import tiny_config
from ecosystem_helpers import arguments, logged_losses
from transformers import AutoModelForSeq2SeqLM, Seq2SeqTrainer, Seq2SeqTrainingArguments

import trefoil

END = 2


def copies(size, seed):
    """The target is the source, of four tokens or fewer."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(size):
        ids = [*rng.integers(4, 12, rng.integers(2, 5)).tolist(), END]
        padding = 5 - len(ids)
        rows.append(
            {
                "input_ids": ids + [0] * padding,
                "attention_mask": [1] * len(ids) + [0] * padding,
                "labels": ids + [-100] * padding,
            }
        )
    return rows


def exact_match(prediction):
    """Of all generated up to the end token, without the start token."""

    def text(ids):
        ids = [int(token) for token in ids if token not in (-100, 0)]
        return ids[: ids.index(END) + 1] if END in ids else ids

    rows = zip(prediction.predictions[:, 1:], prediction.label_ids, strict=True)
    return {"exact": float(np.mean([text(found) == text(label) for found, label in rows]))}


@pytest.mark.parametrize(("steps", "share"), [(40, 0), pytest.param(400, 0.9, marks=pytest.mark.slow)])
def test_it_learns_to_copy(tmp_path, steps, share):
    torch.manual_seed(0)
    model = trefoil.TrefoilEncoderDecoderForConditionalGeneration(tiny_config("encoder-decoder"))
    trainer = Seq2SeqTrainer(
        model,
        arguments(
            tmp_path,
            Seq2SeqTrainingArguments,
            max_steps=steps,
            per_device_train_batch_size=32,
            predict_with_generate=True,
            generation_max_length=7,
            save_steps=steps,
        ),
        train_dataset=copies(1000, seed=0),
        eval_dataset=copies(30, seed=1),
        compute_metrics=exact_match,
    )
    before = trainer.evaluate()
    trainer.train()
    losses = logged_losses(trainer)
    assert losses[-1] < (0.1 if share else 0.9) * losses[0]
    after = trainer.evaluate()
    assert before["eval_exact"] == 0
    assert after["eval_exact"] >= share

    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / f"checkpoint-{steps}")
    again = Seq2SeqTrainer(
        loaded,
        arguments(tmp_path / "again", Seq2SeqTrainingArguments, predict_with_generate=True, generation_max_length=7),
        eval_dataset=copies(30, seed=1),
        compute_metrics=exact_match,
    ).evaluate()
    for name in ("eval_exact", "eval_loss"):
        assert again[name] == pytest.approx(after[name], rel=1e-4)
