"""transformers' own `Trainer` on Trefoil's models."""

import numpy as np
import pytest
import torch
from conftest import tiny_config
from ecosystem_helpers import arguments, logged_losses
from transformers import AutoModelForSequenceClassification, Trainer

import trefoil

POSITIVE = 5  # a token that all sequences of one label hold, and none of the other


def labelled_sequences(size, seed, low=6, high=67):
    """Of different lengths, padded; the label is whether `POSITIVE` is among the tokens."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(size):
        ids = rng.integers(low, high, rng.integers(4, 12))
        if label := number % 2:
            ids[rng.integers(len(ids))] = POSITIVE
        padding = [0] * (12 - len(ids))
        mask = [1] * len(ids) + padding
        rows.append({"input_ids": [*ids.tolist(), *padding], "attention_mask": mask, "labels": label})
    return rows


def accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


@pytest.mark.slow
def test_trainer_fine_tunes_an_encoder(tmp_path):
    torch.manual_seed(0)
    model = trefoil.TrefoilEncoderForSequenceClassification(tiny_config("encoder", classifier_pooling="mean"))
    held_out = labelled_sequences(40, seed=1)
    trainer = Trainer(
        model,
        arguments(tmp_path, max_steps=150, eval_strategy="steps", eval_steps=75, save_steps=75),
        train_dataset=labelled_sequences(256, seed=0),
        eval_dataset=held_out,
        compute_metrics=accuracy,
    )
    before = trainer.evaluate()
    trainer.train()
    losses = logged_losses(trainer)
    assert losses[-1] < 0.3 * losses[0]
    after = trainer.evaluate()
    assert before["eval_accuracy"] < 0.7
    assert after["eval_accuracy"] > 0.9
    assert after["eval_loss"] < before["eval_loss"]

    loaded, report = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "checkpoint-150", output_loading_info=True
    )
    assert type(loaded) is trefoil.TrefoilEncoderForSequenceClassification
    assert not any(report.values()), report
    again = Trainer(loaded, arguments(tmp_path / "again"), eval_dataset=held_out, compute_metrics=accuracy).evaluate()
    for name in ("eval_accuracy", "eval_loss"):
        assert again[name] == pytest.approx(after[name], rel=1e-4)


def test_trainer_goes_on_from_its_checkpoint(tmp_path):
    rows = labelled_sequences(32, seed=0)

    def trainer_of(steps):
        torch.manual_seed(0)
        model = trefoil.TrefoilEncoderForSequenceClassification(tiny_config("encoder"))
        options = {"max_steps": steps, "save_steps": 4, "logging_steps": 1, "lr_scheduler_type": "constant"}
        return Trainer(model, arguments(tmp_path, **options), train_dataset=rows)

    straight = trainer_of(8)
    straight.train()
    resumed = trainer_of(8)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert logged_losses(resumed) == pytest.approx(logged_losses(straight), rel=1e-4)


def test_accumulated_batches_have_the_loss_of_one(tmp_path):
    rows = labelled_sequences(32, seed=0)

    def losses_of(size, accumulated):
        torch.manual_seed(0)
        model = trefoil.TrefoilEncoderForSequenceClassification(tiny_config("encoder"))
        options = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulated}
        trainer = Trainer(
            model, arguments(tmp_path / str(size), max_steps=6, logging_steps=1, **options), train_dataset=rows
        )
        trainer.train()
        return logged_losses(trainer)

    assert losses_of(4, 4) == pytest.approx(losses_of(16, 1), abs=1e-3)
