"""Masked language modelling (Devlin et al. 2019, §3.1): some tokens are hidden, and guessed from both sides."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from huggingface_hub.dataclasses import strict
from transformers import AutoModelForMaskedLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..configuration.errors import UserError
from .language_modeling import (
    METRICS,
    LanguageModelEvaluator,
    LanguageModelOptions,
    LanguageModelPreprocessor,
    LanguageModelReader,
)
from .preprocessor import INTS
from .reader import Reader, Rows
from .sentence_scorer import Row, Sentence, SentenceScorer
from .task import Task

COLUMNS = ("input_ids", "word_ids", "pieces")


@strict
@dataclass
class MaskedLMOptions(LanguageModelOptions):
    probability: float = 0.15  # that a token is chosen
    whole_word: bool = False  # choose words, and of a word all tokens


class MaskedLMReader(LanguageModelReader):
    needed_tokens = ("mask_token",)


class MaskedLMPreprocessor(LanguageModelPreprocessor):
    """In each epoch other tokens are chosen (Liu et al. 2019, §4.1); of these 80 % are masked, 10 % replaced by a random
    token and 10 % left."""

    features = {"input_ids": INTS, "word_ids": INTS}
    shifted = False
    hides_tokens = False

    def __init__(self, reader: Reader, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
        super().__init__(reader, tokenizer, config)
        if not 0 < self.options.probability < 1:
            raise UserError(f"options.probability={self.options.probability} must lie between 0 and 1")
        special = set(tokenizer.all_special_ids)
        self.ordinary = np.array([token for token in range(len(tokenizer)) if token not in special])

    @property
    def around(self) -> tuple[list[int], list[int]]:
        if self.reader.is_stream:
            return [], []
        start, end = (
            [] if token is None else [int(token)]
            for token in (self.tokenizer.cls_token_id, self.tokenizer.sep_token_id)
        )
        return start, end

    def document_ids(self, texts: list[str]) -> list[dict[str, list[int]]]:
        """Token ids and, for each, the word of its text that it is a part of: -1 for what is never masked."""
        encoding = self.tokenizer(texts, add_special_tokens=False, verbose=False)
        start, end = self.around
        return [
            {
                "input_ids": [*start, *ids, *end],
                "word_ids": [-1] * len(start) + encoding.word_ids(row) + [-1] * len(end),
            }
            for row, ids in enumerate(encoding["input_ids"])
        ]

    def randomize(self, rows: Rows, indices: np.ndarray, epoch: int) -> Rows:
        masked: Rows = {"input_ids": [], "labels": [], "sequence_ids": rows["sequence_ids"]}
        for index, *columns in zip(indices, *(rows[name] for name in COLUMNS), strict=True):
            random = np.random.default_rng([self.recipe.seed, epoch, int(index)])
            ids, units = self._units(*columns)
            chosen = (random.random(len(units)) < self.options.probability)[units] & (units >= 0)
            action = random.random(len(ids))
            replacements = random.choice(self.ordinary, len(ids))
            hidden = np.where(action < 0.8, self.tokenizer.mask_token_id, np.where(action < 0.9, replacements, ids))
            masked["input_ids"].append(np.where(chosen, hidden, ids))
            masked["labels"].append(np.where(chosen, ids, -100))
        return masked

    def mask_round(self, number: int, rows: Rows, indices: np.ndarray) -> Rows:
        """Every so manieth token (or word) masked, another one in each round."""
        masked: Rows = {"input_ids": [], "labels": [], "sequence_ids": rows["sequence_ids"]}
        for index, *columns in zip(indices, *(rows[name] for name in COLUMNS), strict=True):
            ids, units = self._units(*columns)
            chosen = ((units + int(index)) % self.rounds == number) & (units >= 0)
            masked["input_ids"].append(np.where(chosen, self.tokenizer.mask_token_id, ids))
            masked["labels"].append(np.where(chosen, ids, -100))
        return masked

    @property
    def rounds(self) -> int:
        return max(2, round(1 / self.options.probability))

    def _units(self, ids: np.ndarray, words: np.ndarray, pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A row's ids and, for each, the number of the unit that is masked together: itself, or its word."""
        if self.options.whole_word:
            change = (np.diff(words, prepend=-2) != 0) | (np.diff(pieces, prepend=-1) != 0)
            units = np.cumsum(change) - 1
        else:
            units = np.arange(len(words))
        return ids, np.where(words >= 0, units, -1)


class MaskedLMEvaluator(LanguageModelEvaluator):
    """Scores are of every token, masked in one of as many rounds as make each of them masked once: a pseudo-perplexity
    (Salazar et al. 2020), but with all tokens of a round masked at a time. While training, one round stands for all."""

    preprocessor: MaskedLMPreprocessor

    def evaluate(self, model: PreTrainedModel, final: bool) -> dict[str, Any]:
        packed: Any = self.split.examples
        tokens = sum(int((piece >= 0).sum()) for piece in packed.columns["word_ids"].pieces)
        found = []
        for number in range(self.preprocessor.rounds if final else 1):
            batches = self.outputs(model, partial(self.preprocessor.mask_round, number))
            for indices, batch, output in batches:
                found.append((int(indices[0]), float(output.loss), int((batch["labels"] != -100).sum())))
        return self.scores(found, tokens)


class MaskedLMScorer(SentenceScorer):
    """Pseudo-log-likelihoods (Salazar et al. 2020): each token in its own row, masked, and with it those that follow it in its
    word, for they would give it away (Kauf & Ivanova 2023, PLL-word-l2r). What stands around a document is not asked."""

    preprocessor: MaskedLMPreprocessor

    def row_count(self, sentence: Sentence) -> int:
        return sum(word >= 0 for word in sentence.words)

    def row(self, sentence: Sentence, number: int) -> Row:
        ids, words = np.array(sentence.ids), np.array(sentence.words)
        place = np.flatnonzero(words >= 0)[number]
        hidden = (words == words[place]) & (np.arange(len(ids)) >= place)
        labels = np.full(len(ids), -100)
        labels[place] = ids[place]
        return {"input_ids": np.where(hidden, self.tokenizer.mask_token_id, ids), "labels": labels}

    def lengths(self, sentence: Sentence) -> tuple[int, ...]:
        return (len(sentence.ids),)


MASKED_LM = Task(
    name="masked-lm",
    also_called=("mlm", "fill-mask", "masked-language-modeling", "masked-language-model", "pretraining"),
    pipeline_tag="fill-mask",
    auto_class=AutoModelForMaskedLM,
    families=("trefoil_encoder",),
    roles=("text",),
    options=MaskedLMOptions,
    metrics=METRICS,
    minimized=METRICS,
    asked=("text",),
    reader=MaskedLMReader,
    preprocessor=MaskedLMPreprocessor,
    evaluator=MaskedLMEvaluator,
    scorer=MaskedLMScorer,
)
