"""How likely a language model finds sentences, in nats: what the kinds of models have in common.

A sentence is encoded as the model's task encodes a document, and asked of the model in rows, each of which asks for some
of its tokens. The score is the sum of their log-probabilities.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import nn
from transformers import PreTrainedModel

from ..data.tokenizer import bare_ids, padding_id
from .evaluator import shared_batches
from .language_modeling import LanguageModelPreprocessor, as_lines
from .preprocessor import pad
from .reader import Rows, beginning

TEXTS = 1000  # that are tokenized at a time
ROWS = 32  # whose logits are normalized at a time

Row = dict[str, Sequence[int] | np.ndarray]
"""The model's inputs and, for each position of its logits, the token that is asked there, as `labels`, or -100."""


@dataclass(frozen=True)
class Sentence:
    """
    Args:
        ids: Of its tokens, special ones too.
        words: For each, the number of the word that it is a part of; -1 for what is not asked.
    """

    ids: tuple[int, ...]
    words: tuple[int, ...]


class SentenceScorer:
    """
    Args:
        preprocessor: Of the model's task.
        model: On its device.
        accelerator: The processes that share the work.
    """

    end_word: ClassVar[int] = -1  # that of the token that ends a document

    def __init__(
        self, preprocessor: LanguageModelPreprocessor, model: PreTrainedModel, accelerator: Accelerator
    ) -> None:
        self.preprocessor, self.model, self.accelerator = preprocessor, model, accelerator
        self.tokenizer = preprocessor.tokenizer

    def encode(self, texts: Sequence[str], contexts: Sequence[str] | None = None) -> list[Sentence]:
        """Texts, each behind its context, which is given. With a tokenizer that is not fast, each token is a word."""
        contexts = [""] * len(texts) if contexts is None else contexts
        sentences: list[Sentence] = []
        for first in range(0, len(texts), TEXTS):
            some = slice(first, first + TEXTS)
            sentences += self._encoded(texts[some], contexts[some])
        return sentences

    def _encoded(self, texts: Sequence[str], contexts: Sequence[str]) -> Iterator[Sentence]:
        start, end = self.preprocessor.before_first, self.preprocessor.around[1]
        whole = [
            beginning(context + text, self.preprocessor.max_source_length)
            for context, text in zip(contexts, texts, strict=True)
        ]
        whole = as_lines(whole) if self.preprocessor.reader.is_stream else whole
        encoding = self.tokenizer(whole, add_special_tokens=False, verbose=False)
        for row, (ids, context) in enumerate(zip(encoding["input_ids"], contexts, strict=True)):
            given = len(bare_ids(self.tokenizer, [context])[0]) if context else 0
            of_text = encoding.word_ids(row) if self.tokenizer.is_fast else range(len(ids))
            asked = [-1 if place < given or word is None else word for place, word in enumerate(of_text)]
            words = [-1] * len(start) + asked + [self.end_word] * len(end)
            yield Sentence((*start, *ids, *end), tuple(words))

    def problem(self, sentence: Sentence) -> str | None:
        """Why the model cannot read a sentence."""
        if not self.row_count(sentence):
            return "has no tokens"
        limits = self.preprocessor.max_source_length, self.preprocessor.max_target_length
        for length, limit in zip(self.lengths(sentence), limits, strict=False):
            if length > limit:
                return f"has {length} tokens, more than the model's {limit}"
        return None

    def row_count(self, sentence: Sentence) -> int:
        """In how many rows it is asked."""
        raise NotImplementedError

    def row(self, sentence: Sentence, number: int) -> Row:
        """One of them, counted from 0."""
        raise NotImplementedError

    def lengths(self, sentence: Sentence) -> tuple[int, ...]:
        """The most tokens that its rows have on each side of the model."""
        raise NotImplementedError

    @torch.no_grad()
    def score(self, sentences: Sequence[Sentence]) -> tuple[np.ndarray, np.ndarray]:
        """The same on every process. Equal sentences are asked once, so that they are equally likely to the last bit.

        Returns:
            Log-likelihoods `(sentences,)` in nats, float64, and whether all that was asked is what the model would say.
        """
        numbers = {sentence: number for number, sentence in enumerate(dict.fromkeys(sentences))}
        distinct = list(numbers)
        counts = np.array([self.row_count(sentence) for sentence in distinct])
        owners = np.repeat(np.arange(len(distinct)), counts)
        rows = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        lengths = np.array([self.lengths(sentence) for sentence in distinct])[owners]
        found = np.zeros((2, len(distinct)))  # log-likelihoods, and tokens that the model would not say
        budget = self.preprocessor.recipe.evaluation.tokens_per_batch
        for indices in shared_batches(self.accelerator, lengths, budget, "scoring"):
            made = [self.row(distinct[owners[index]], int(rows[index])) for index in indices]
            for which, values in enumerate(self._answers(made)):
                np.add.at(found[which], owners[indices], values)
        if self.accelerator.num_processes > 1:
            found = self.accelerator.reduce(torch.from_numpy(found).to(self.accelerator.device), "sum").cpu().numpy()
        order = [numbers[sentence] for sentence in sentences]
        return found[0][order], found[1][order] == 0

    def _answers(self, rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
        """Of each row, the log-likelihood of what it asks, and how many tokens of it are not the likeliest."""
        batch = send_to_device(self.collate({name: [row[name] for row in rows] for name in rows[0]}), self.model.device)
        labels = batch.pop("labels")
        found = torch.zeros(2, len(rows), device=labels.device)
        logits = self.model(**batch).logits
        for first in range(0, len(rows), ROWS):
            part = slice(first, first + ROWS)
            asked = labels[part] != -100
            scores, wanted = logits[part][asked].float(), labels[part][asked]
            values = -nn.functional.cross_entropy(scores, wanted, reduction="none")
            wrong = (scores.argmax(dim=-1) != wanted).float()
            found[:, part].index_add_(1, asked.nonzero()[:, 0], torch.stack([values, wrong]))
        return tuple(found.cpu().double().numpy())

    def collate(self, rows: Rows) -> dict[str, torch.Tensor]:
        padding = padding_id(self.tokenizer)
        batch = {name: pad(values, -100 if name == "labels" else padding) for name, values in rows.items()}
        return batch | {"attention_mask": pad([[1] * len(ids) for ids in rows["input_ids"]], 0)}
