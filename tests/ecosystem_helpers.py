"""What the tests of other people's tools share: training arguments, losses, a pattern to learn, tokenizers."""

import torch
from transformers import TrainingArguments

from trefoil.data.tokenizer import train_tokenizer
from trefoil.recipes.schema import TokenizerRecipe

PERIODIC = torch.arange(40).view(4, 10) % 5 + 7  # what a few steps can learn


def arguments(folder, kind=TrainingArguments, **changes):
    return kind(
        str(folder),
        **{"per_device_train_batch_size": 8, "max_steps": 60, "learning_rate": 5e-3, "logging_steps": 5}
        | {"report_to": [], "use_cpu": True, "seed": 1, "disable_tqdm": True}
        | changes,
    )


def logged_losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def logits_of(model):
    with torch.no_grad():
        return model.eval()(input_ids=PERIODIC).logits


def small_tokenizer(texts, template, vocab_size=67):
    """One token a character."""
    return train_tokenizer(texts, TokenizerRecipe(kind="characters", vocab_size=vocab_size), template)
