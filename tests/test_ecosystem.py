"""What others built for transformers' models works with these: its `Trainer`, and PEFT's adapters."""

import numpy as np
import pytest
import torch
from conftest import tiny_config, tiny_model
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

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


def arguments(folder, **changes):
    return TrainingArguments(
        str(folder),
        **{"per_device_train_batch_size": 8, "max_steps": 60, "learning_rate": 5e-3, "logging_steps": 5}
        | {"report_to": [], "use_cpu": True, "seed": 1, "disable_tqdm": True}
        | changes,
    )


def logged_losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


# --- Trainer


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


# --- PEFT


PERIODIC = torch.arange(40).view(4, 10) % 5 + 7  # what a few steps can learn


@pytest.fixture
def adapted():
    """A decoder with adapters on all linear layers, and its weights before."""
    model = tiny_model("decoder")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    torch.manual_seed(0)
    config = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4, lora_alpha=8)
    return get_peft_model(model, config), before


def train_adapters(peft_model):
    """Losses of a few steps."""
    optimizer = torch.optim.AdamW([part for part in peft_model.parameters() if part.requires_grad], lr=2e-2)
    losses = []
    for _ in range(30):
        loss = peft_model(input_ids=PERIODIC, labels=PERIODIC).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def logits_of(model):
    with torch.no_grad():
        return model.eval()(input_ids=PERIODIC).logits


def test_adapters_are_trained_and_nothing_else(adapted):
    peft_model, before = adapted
    trainable = {name for name, part in peft_model.named_parameters() if part.requires_grad}
    assert trainable
    assert all("lora_" in name for name in trainable)
    # q, k, v and o, and three of the gated feed-forward, in two layers: two matrices each
    assert len(trainable) == 2 * 2 * 7
    losses = train_adapters(peft_model)
    assert losses[-1] < 0.3 * losses[0]
    after = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): weight
        for name, weight in peft_model.state_dict().items()
        if "lora_" not in name
    }
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_adapters_are_saved_and_loaded_onto_the_same_base(adapted, tmp_path):
    peft_model, _ = adapted
    untrained = logits_of(peft_model)
    train_adapters(peft_model)
    logits = logits_of(peft_model)
    assert not torch.allclose(logits, untrained, atol=0.1)
    peft_model.save_pretrained(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    loaded = PeftModel.from_pretrained(tiny_model("decoder"), tmp_path)
    torch.testing.assert_close(logits_of(loaded), logits)


def test_merged_adapters_give_the_same_logits(adapted, tmp_path):
    peft_model, before = adapted
    train_adapters(peft_model)
    logits = logits_of(peft_model)
    merged = peft_model.merge_and_unload()
    assert type(merged) is trefoil.TrefoilDecoderForCausalLM
    assert merged.state_dict().keys() == before.keys()
    torch.testing.assert_close(logits_of(merged), logits, atol=1e-4, rtol=1e-4)
    merged.save_pretrained(tmp_path)
    loaded = trefoil.TrefoilDecoderForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(logits_of(loaded), logits_of(merged))


def test_an_adapted_decoder_generates_what_it_learned(adapted):
    peft_model, _ = adapted
    train_adapters(peft_model)
    peft_model.eval()
    prompt, expected = PERIODIC[:1, :5], PERIODIC[:1]
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    found = peft_model.generate(input_ids=prompt, **options)
    assert torch.equal(found, expected)
    assert torch.equal(peft_model.merge_and_unload().generate(prompt, **options), found)


def test_trainer_trains_adapters(adapted, tmp_path):
    peft_model, before = adapted
    rows = [{"input_ids": row.tolist(), "labels": row.tolist()} for row in PERIODIC]
    trainer = Trainer(
        peft_model,
        arguments(tmp_path, max_steps=30, learning_rate=2e-2, per_device_train_batch_size=4),
        train_dataset=rows,
    )
    trainer.train()
    losses = logged_losses(trainer)
    assert losses[-1] < 0.5 * losses[0]
    embedding = peft_model.get_base_model().model.embed_tokens.weight
    assert torch.equal(embedding, before["model.embed_tokens.weight"])
    loaded = PeftModel.from_pretrained(tiny_model("decoder"), tmp_path / "checkpoint-30")
    torch.testing.assert_close(logits_of(loaded), logits_of(peft_model))
