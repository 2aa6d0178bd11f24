"""Causal language modelling (Radford et al. 2018): each token is predicted from those before it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import datasets
import numpy as np
import torch
from huggingface_hub.dataclasses import strict
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedConfig, PreTrainedModel

from ..data.tokenizer import LEFT_TO_RIGHT, STREAM, Template
from .base import INTS
from .language_modeling import Columns, LanguageModelOptions, LanguageModelTask, as_lines


@strict
@dataclass
class CausalLMOptions(LanguageModelOptions):
    stride: int | None = None  # in the final evaluation, rows begin so many tokens apart; default: they do not overlap


class CausalLMTask(LanguageModelTask):
    name = "causal-lm"
    auto_class = AutoModelForCausalLM
    family = ("trefoil_decoder",)
    options_class = CausalLMOptions
    features = {"input_ids": INTS, "labels": INTS, "sequence_ids": INTS}

    @property
    def template(self) -> Template:  # type: ignore[override]
        return STREAM if self.is_stream else LEFT_TO_RIGHT

    def begin(self) -> None:
        self.previous: list[int] = []  # the last token of the stream so far: the next one is predicted from it

    def token_columns(self, texts: list[str]) -> Iterator[Columns]:
        """Inputs and, shifted by one, what each of them should predict."""
        if self.is_stream:
            lines = self._token_ids(as_lines(texts))
            documents = [[*self.previous, *chain.from_iterable(lines)]]
            self.previous = documents[0][-1:]
        else:
            end = self.tokenizer.eos_token_id
            start = end if self.tokenizer.bos_token_id is None else self.tokenizer.bos_token_id
            documents = [[start, *ids, end] for ids in self._token_ids(texts)]
        for ids in map(np.array, documents):
            yield ids[:-1], ids[1:]

    def _token_ids(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []

    def collate(self, rows: dict[str, list]) -> dict[str, torch.Tensor]:
        batch = super().collate(rows)
        # the model would shift `labels` itself, within each row; these are shifted within each document
        return batch | {"shift_labels": batch["labels"]}

    def generation_config(self, config: PreTrainedConfig) -> GenerationConfig:
        return GenerationConfig(
            do_sample=True,
            top_k=50,
            max_new_tokens=self.recipe.evaluation.max_new_tokens or min(256, self.positions[0] // 2),
            pad_token_id=config.pad_token_id,
            bos_token_id=config.bos_token_id,
            eos_token_id=config.eos_token_id,
        )

    @torch.no_grad()
    def evaluate(
        self, model: PreTrainedModel, examples: datasets.Dataset, accelerator: Any, final: bool
    ) -> dict[str, Any]:
        encoded = self.pack(examples, "the evaluated split", self.options.stride if final else None)
        found = [
            (int(indices[0]), float(output.loss), int((batch["labels"] != -100).sum()))
            for indices, batch, output in self.outputs(model, encoded, accelerator)
        ]
        return self.scores(found, examples, accelerator)
