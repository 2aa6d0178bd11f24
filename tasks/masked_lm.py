"""Masked language modelling (Devlin et al. 2019, §3.1): some tokens are hidden, and guessed from both sides."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import datasets
import numpy as np
import torch
from huggingface_hub.dataclasses import strict
from transformers import AutoModelForMaskedLM, PreTrainedConfig, PreTrainedModel

from ..configuration.errors import UserError
from .base import INTS
from .language_modeling import Columns, LanguageModelOptions, LanguageModelTask, as_lines


@strict
@dataclass
class MaskedLMOptions(LanguageModelOptions):
    probability: float = 0.15  # that a token is chosen
    whole_word: bool = False  # choose words, and of a word all tokens


class MaskedLMTask(LanguageModelTask):
    """In each epoch other tokens are chosen (Liu et al. 2019, §4.1); of these 80 % are masked, 10 % replaced by a random
    token and 10 % left.

    Scores are of every token, masked in one of as many rounds as make each of them masked once: a pseudo-perplexity
    (Salazar et al. 2020), but with all tokens of a round masked at a time. While training, one round stands for all.
    """

    name = "masked-lm"
    auto_class = AutoModelForMaskedLM
    family = ("trefoil_encoder",)
    options_class = MaskedLMOptions
    features = {"input_ids": INTS, "word_ids": INTS, "sequence_ids": INTS}

    def prepare_config(self, config: PreTrainedConfig) -> None:
        super().prepare_config(config)
        if self.tokenizer.mask_token_id is None:
            raise UserError("the tokenizer has no mask token, which masked language modelling needs; take another")
        if not 0 < self.options.probability < 1:
            raise UserError(f"options.probability={self.options.probability} must lie between 0 and 1")
        special = set(self.tokenizer.all_special_ids)
        self.ordinary = np.array([token for token in range(len(self.tokenizer)) if token not in special])

    def begin(self) -> None:
        self.words = 0  # of the stream so far

    def token_columns(self, texts: list[str]) -> Iterator[Columns]:
        """Token ids and, for each, the word that it is a part of: -1 for what is never masked."""
        if not texts:
            return
        lines = as_lines(texts) if self.is_stream else texts
        encoding = self.tokenizer(lines, add_special_tokens=False, verbose=False)
        ids = [np.array(row, dtype=np.int64) for row in encoding["input_ids"]]
        words = [np.array(encoding.word_ids(row), dtype=np.int64) for row in range(len(lines))]
        if not self.is_stream:
            start, end = [self.tokenizer.cls_token_id], [self.tokenizer.sep_token_id]
            for row_ids, row_words in zip(ids, words, strict=True):
                yield np.concatenate([start, row_ids, end]), np.concatenate([[-1], row_words, [-1]])
            return
        for row_words in words:
            row_words += self.words
            self.words = int(row_words[-1]) + 1 if len(row_words) else self.words
        yield np.concatenate(ids), np.concatenate(words)

    def randomize(self, rows: dict[str, list], indices: np.ndarray, epoch: int) -> dict[str, list]:
        masked: dict[str, list] = {"input_ids": [], "labels": [], "sequence_ids": rows["sequence_ids"]}
        for index, *columns in zip(indices, *(rows[name] for name in self.features), strict=True):
            random = np.random.default_rng([self.recipe.seed, epoch, int(index)])
            ids, units = self._units(*columns)
            chosen = (random.random(len(units)) < self.options.probability)[units] & (units >= 0)
            action = random.random(len(ids))
            replacements = random.choice(self.ordinary, len(ids))
            hidden = np.where(action < 0.8, self.tokenizer.mask_token_id, np.where(action < 0.9, replacements, ids))
            masked["input_ids"].append(np.where(chosen, hidden, ids))
            masked["labels"].append(np.where(chosen, ids, -100))
        return masked

    def mask_round(self, number: int, rows: dict[str, list], indices: np.ndarray) -> dict[str, list]:
        """Every so manieth token (or word) masked, another one in each round."""
        masked: dict[str, list] = {"input_ids": [], "labels": [], "sequence_ids": rows["sequence_ids"]}
        for index, *columns in zip(indices, *(rows[name] for name in self.features), strict=True):
            ids, units = self._units(*columns)
            chosen = ((units + int(index)) % self.rounds == number) & (units >= 0)
            masked["input_ids"].append(np.where(chosen, self.tokenizer.mask_token_id, ids))
            masked["labels"].append(np.where(chosen, ids, -100))
        return masked

    @property
    def rounds(self) -> int:
        return max(2, round(1 / self.options.probability))

    def _units(self, ids: list[int], word_ids: list[int], sequence_ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """A row's ids and, for each, the number of the unit that is masked together: itself, or its word."""
        words = np.array(word_ids)
        if self.options.whole_word:
            change = (np.diff(words, prepend=-2) != 0) | (np.diff(sequence_ids, prepend=-1) != 0)
            units = np.cumsum(change) - 1
        else:
            units = np.arange(len(words))
        return np.array(ids), np.where(words >= 0, units, -1)

    def collate(self, rows: dict[str, list]) -> dict[str, torch.Tensor]:
        """With `logits_to_keep`: only what is masked goes through the vocabulary's projection."""
        batch = super().collate(rows)
        return batch | {"logits_to_keep": batch["labels"] != -100}

    @torch.no_grad()
    def evaluate(
        self, model: PreTrainedModel, examples: datasets.Dataset, accelerator: Any, final: bool
    ) -> dict[str, Any]:
        encoded = self.pack(examples, "the evaluated split")
        tokens = sum(int((np.array(words) >= 0).sum()) for words in encoded["word_ids"])
        found = []
        for number in range(self.rounds if final else 1):
            batches = self.outputs(model, encoded, accelerator, partial(self.mask_round, number))
            for indices, batch, output in batches:
                found.append((int(indices[0]), float(output.loss), int((batch["labels"] != -100).sum())))
        return self.scores(found, examples, accelerator, tokens)
