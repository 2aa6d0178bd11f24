"""TRL's supervised fine-tuning of the decoder."""

import pytest
import torch
from conftest import tiny_config
from datasets import Dataset
from ecosystem_helpers import arguments, logged_losses, small_tokenizer
from transformers import AutoModelForCausalLM

import trefoil
from trefoil.data.tokenizer import LEFT_TO_RIGHT

pytest.importorskip("trl")
from trl import SFTConfig, SFTTrainer

TEXTS = ["abc abc abc abc", "abcabcabc", "cab cab cab"] * 4


@pytest.fixture
def tokenizer():
    return small_tokenizer(TEXTS, LEFT_TO_RIGHT)


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    return trefoil.TrefoilDecoderForCausalLM(tiny_config("decoder", vocab_size=len(tokenizer)))


def trainer_of(model, tokenizer, folder, rows, **options):
    return SFTTrainer(
        model,
        args=arguments(folder, SFTConfig, max_steps=3, save_steps=3, logging_steps=1, bf16=False, **options),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )


@pytest.mark.parametrize("packing", [False, True])
def test_three_steps(model, tokenizer, tmp_path, packing):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    rows = [{"text": text} for text in TEXTS]
    trainer = trainer_of(model, tokenizer, tmp_path, rows, packing=packing, max_length=32)
    trainer.train()
    losses = logged_losses(trainer)
    assert losses[-1] < 0.95 * losses[0]
    assert all(not torch.equal(weight, before[name]) for name, weight in model.state_dict().items())

    loaded, report = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint-3", output_loading_info=True)
    assert type(loaded) is trefoil.TrefoilDecoderForCausalLM
    assert not any(report.values()), report
    inputs = tokenizer(TEXTS[0], return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(loaded(**inputs).logits, model.eval()(**inputs).logits)


def test_packed_rows_have_the_loss_of_their_parts(model, tokenizer, tmp_path):
    trainer = trainer_of(
        model, tokenizer, tmp_path, [{"text": text} for text in TEXTS], packing=True, max_length=40,
        per_device_train_batch_size=2,
    )  # fmt: skip
    model.eval()
    for batch in trainer.get_train_dataloader():
        assert "attention_mask" not in batch
        ids, positions = batch["input_ids"].flatten(), batch["position_ids"].flatten()
        starts = (positions == 0).nonzero().flatten().tolist()
        documents = [ids[start:end][None] for start, end in zip(starts, [*starts[1:], len(ids)], strict=True)]
        assert len(documents) > len(batch["input_ids"])
        with torch.no_grad():
            parts = [(model(input_ids=part, labels=part).loss, part.shape[1] - 1) for part in documents]
            loss = model(**batch).loss
        expected = sum(loss * size for loss, size in parts) / sum(size for _, size in parts)
        torch.testing.assert_close(loss, expected)
