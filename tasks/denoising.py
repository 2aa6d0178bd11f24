"""Denoising: an encoder-decoder learns language by mending texts (Lewis et al. 2020; Raffel et al. 2020).

Texts are packed, and each is corrupted by itself: `sequence_ids` keep the texts of a row from seeing each other, on both
sides. In each epoch other parts are hidden; a validation split always has the same ones.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import count, takewhile
from typing import Any, Literal

import numpy as np
import torch
from huggingface_hub.dataclasses import strict
from transformers import (
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ..configuration.errors import UserError
from ..data.corruption import (
    Denoiser,
    Infilling,
    Prefix,
    Spans,
    mixture_of_denoisers,
    most_tokens,
    with_masks,
    with_sentinels,
)
from ..data.tokenizer import TEXT_TO_TEXT, Template, bare_ids, padding_id, token_id
from ..recipes.schema import Recipe
from .evaluator import Evaluator
from .language_modeling import (
    LanguageModelOptions,
    LanguageModelPreprocessor,
    LanguageModelReader,
    as_lines,
    positions_within,
)
from .metrics.language_modeling import perplexity
from .preprocessor import INTS, EncodedRow, Split, pad, special_token_ids
from .reader import Reader, Rows
from .sentence_scorer import Row, Sentence, SentenceScorer
from .task import Task
from .text_to_text import TextToTextPreprocessor

# of a batch -> what stands for padding; None: the padding token
COLUMNS = {
    "input_ids": None, "sequence_ids": -1, "labels": -100, "decoder_input_ids": None, "decoder_sequence_ids": -1,
}  # fmt: skip
SENTINEL = "<extra_id_{}>"
SPACES = (" ", "\n", "Ġ", "Ċ", "▁")  # as tokenizers write them
MODES = ("[R]", "[S]", "[X]")
DENSITIES = {"spans": 0.15, "infilling": 0.3}
_SENTINELS = tuple(map(SENTINEL.format, range(100)))
TEMPLATES = {
    "spans": replace(TEXT_TO_TEXT, more=_SENTINELS),
    "infilling": replace(TEXT_TO_TEXT, mask=True),
    "ul2": replace(TEXT_TO_TEXT, more=_SENTINELS + MODES),
    "prefix": TEXT_TO_TEXT,
}


@strict
@dataclass
class DenoisingOptions(LanguageModelOptions):
    objective: Literal["spans", "infilling", "ul2", "prefix"] = "spans"  # of T5, of BART, of UL2, or what follows
    density: float | None = None  # the share of tokens that are hidden; default: 0.15 in spans, 0.3 when infilling
    mean_span_length: float | None = None  # in tokens; default: 3
    permute_sentences: bool | None = None  # when infilling; default: true


class DenoisingReader(LanguageModelReader):
    needed_tokens = ("eos_token",)

    def __init__(self, task: Task, recipe: Recipe) -> None:
        super().__init__(task, recipe)
        options: DenoisingOptions = self.options
        having = {"density": DENSITIES, "mean_span_length": DENSITIES, "permute_sentences": ("infilling",)}
        for name, objectives in having.items():
            if getattr(options, name) is not None and options.objective not in objectives:
                raise UserError(
                    f"options.{name} is for options.objective={' or '.join(objectives)}, not for {options.objective}"
                )
        if options.density is not None and not 0 < options.density < 1:
            raise UserError(f"options.density={options.density} must lie between 0 and 1")
        if options.mean_span_length is not None and not 1 <= options.mean_span_length < math.inf:
            raise UserError(f"options.mean_span_length={options.mean_span_length} must be at least 1")

    @property
    def template(self) -> Template:  # type: ignore[override]
        return TEMPLATES[self.options.objective]

    def text_roles(self) -> tuple[str, ...]:
        return tuple(self.column_names())


class DenoisingPreprocessor(LanguageModelPreprocessor):
    """A row holds as many tokens as a text can have of which, corrupted, neither side is longer than its
    `batches.max_source_length` and `max_target_length` (default: the model's positions)."""

    features = {"input_ids": INTS}
    hides_tokens = False
    shifted = False

    def __init__(self, reader: Reader, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
        super().__init__(reader, tokenizer, config)
        self.end: Any = token_id(tokenizer, "eos_token")
        self.start: Any = self.end if config.start_from_labels else config.decoder_start_token_id
        self.before, self.behind = around(tokenizer)
        self.sentinels = self._sentinels()
        self.denoiser = self._denoiser()
        source, target = self.max_source_length - len(self.before) - len(self.behind), self.max_target_length - 1
        self.row_length = most_tokens(self.denoiser, source, target, len(self.sentinels))
        if self.row_length < 2:
            raise UserError(
                f"batches.max_source_length={self.max_source_length} and max_target_length={self.max_target_length} "
                f"leave no room for options.objective={self.options.objective}; raise them"
            )

    @classmethod
    def model_fields(
        cls, reader: Reader, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, learned: dict[str, Any]
    ) -> dict[str, Any]:
        return TextToTextPreprocessor.model_fields(reader, tokenizer, config, learned)

    def _sentinels(self) -> np.ndarray:
        vocabulary = self.tokenizer.get_vocab()
        tokens = takewhile(vocabulary.__contains__, map(SENTINEL.format, count()))
        return np.array([vocabulary[token] for token in tokens], dtype=np.int64)

    def _denoiser(self) -> Denoiser:
        options: DenoisingOptions = self.options
        density, mean = options.density or DENSITIES.get(options.objective, 0.0), options.mean_span_length or 3.0
        if options.objective == "prefix":
            return Prefix()
        if options.objective == "infilling":
            (mask,) = self._ids([self.tokenizer.mask_token or "mask token"])
            sentences = () if options.permute_sentences is False else sentence_places(self.tokenizer)
            return Infilling(density, mean, mask, *sentences)
        self._ids([SENTINEL.format(0)])
        if options.objective == "spans":
            return Spans(density, mean, self.sentinels)
        return mixture_of_denoisers(self._ids(MODES), self.sentinels)

    def _ids(self, tokens: Iterable[str]) -> list[int]:
        vocabulary = self.tokenizer.get_vocab()
        for token in tokens:
            if token not in vocabulary:
                raise UserError(
                    f"the tokenizer has no {token}, which options.objective={self.options.objective} needs; take one that "
                    "was trained for this objective"
                )
        return [vocabulary[token] for token in tokens]

    def document_ids(self, texts: list[str]) -> list[dict[str, list[int]]]:
        return [{"input_ids": row} for row in bare_ids(self.tokenizer, texts)]

    def encode_rows(self, rows: Rows, is_scored: bool) -> list[EncodedRow | str]:
        problems = self.reader.problems(rows)
        roles = [role for role in self.reader.text_roles() if role in rows]
        valid = [number for number, problem in enumerate(problems) if problem is None]
        texts = [rows[role][number] for number in valid for role in roles]
        ids = iter(self.document_ids(as_lines(texts) if self.reader.is_stream else texts) if texts else [])
        return [EncodedRow([next(ids) for _ in roles]) if problem is None else problem for problem in problems]

    @property
    def packed_length(self) -> int:
        return self.row_length

    def lengths(self, examples: Any) -> np.ndarray:
        """`(rows, 2)`: the most tokens of source and target, which a row may have whatever is hidden."""
        sizes, firsts = examples.parts()
        special = np.array([[len(self.before) + len(self.behind)], [1]])
        needs = self.denoiser.needs(sizes)[:2] + special
        return np.add.reduceat(needs, firsts, axis=1).T

    def randomize(self, rows: Rows, indices: np.ndarray, epoch: int) -> Rows:
        return self._corrupted(rows, ([self.recipe.seed, epoch, int(index)] for index in indices))

    def corrupted_once(self, rows: Rows, indices: np.ndarray) -> Rows:
        """The same whatever the run."""
        return self._corrupted(rows, ([int(index), 0, 0, 1] for index in indices))

    def _corrupted(self, rows: Rows, keys: Iterable[list[int]]) -> Rows:
        made: Rows = {name: [] for name in COLUMNS}
        for ids, documents, key in zip(rows["input_ids"], rows["sequence_ids"], keys, strict=True):
            random = np.random.default_rng(key)
            texts = np.split(ids, np.flatnonzero(np.diff(documents)) + 1)
            pairs = [self._pair(text, number, random) for number, text in enumerate(texts)]
            for name in COLUMNS:
                made[name].append(np.concatenate([pair[name] for pair in pairs]))
        return made

    def _pair(self, ids: np.ndarray, number: int, random: np.random.Generator) -> dict[str, np.ndarray]:
        """Source and target of a text, and what the decoder sees of the target: the text's own start, and all but the end."""
        source, labels = self.framed(*self.denoiser(ids, random))
        return {
            "input_ids": source,
            "sequence_ids": np.full(len(source), number),
            "labels": labels,
            "decoder_input_ids": np.append(self.start, labels[:-1]),
            "decoder_sequence_ids": np.full(len(labels), number),
        }

    def framed(self, source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both with their special tokens; the target has the end."""
        return np.concatenate([self.before, source, self.behind]), np.append(target, self.end)

    def with_hidden(self, ids: np.ndarray, span: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        """Source and target of a text of which only the tokens from `span[0]` to before `span[1]` are hidden, and where in the
        target these begin; of a prefix, all that follow are."""
        objective = self.options.objective
        if objective == "prefix":
            return *self.framed(ids[: span[0]], ids[span[0] :]), 0
        if objective == "infilling":
            (mask,) = self._ids([self.tokenizer.mask_token])
            return *self.framed(with_masks(ids, span[None], mask), ids), int(span[0])
        source, target = with_sentinels(ids, span[None], self.sentinels)
        mode = self._ids(MODES[:1]) if objective == "ul2" else []
        return *self.framed(np.concatenate([mode, source]).astype(np.int64), target), 1

    def collate(self, rows: Rows) -> dict[str, torch.Tensor]:
        padding = padding_id(self.tokenizer)
        batch = {name: pad(rows[name], padding if fill is None else fill) for name, fill in COLUMNS.items()}
        return batch | {
            "position_ids": positions_within(batch["sequence_ids"]),
            "decoder_position_ids": positions_within(batch["decoder_sequence_ids"]),
        }

    def tokens(self, batch: dict[str, torch.Tensor]) -> int:
        return batch["input_ids"].numel() + batch["labels"].numel()

    def generation_config(self, config: PreTrainedConfig, train: Split | None = None) -> GenerationConfig:
        return GenerationConfig(
            max_new_tokens=self.recipe.evaluation.max_new_tokens or self.max_target_length,
            num_beams=self.recipe.evaluation.num_beams,
            **special_token_ids(config),
        )


class DenoisingEvaluator(Evaluator):
    """Scores targets, and generates nothing."""

    preprocessor: DenoisingPreprocessor

    def evaluate(self, model: PreTrainedModel, final: bool) -> dict[str, Any]:
        found = self.gathered(
            [
                (int(indices[0]), float(output.loss), int((batch["labels"] != -100).sum()))
                for indices, batch, output in self.outputs(model, self.preprocessor.corrupted_once)
            ]
        )
        loss = sum(loss for _, loss, _ in found) / sum(labels for *_, labels in found)
        return {"loss": loss, "perplexity": perplexity(loss)}


class DenoisingScorer(SentenceScorer):
    """Pseudo-log-likelihoods of words, as of masked models (Kauf & Ivanova 2023): each word in its own row, as the one span
    that is hidden from the encoder, and of the decoder's target its tokens and the one behind, by which the word ends. So
    the model sees what it was trained on, a text with a small part missing. UL2's is told that the denoiser is regular.

    With `objective=prefix` nothing is ever missing amid a text: one row asks for all, as what follows the context."""

    preprocessor: DenoisingPreprocessor

    def row_count(self, sentence: Sentence) -> int:
        words = {word for word in sentence.words if word >= 0}
        return min(1, len(words)) if self.preprocessor.options.objective == "prefix" else len(words)

    def row(self, sentence: Sentence, number: int) -> Row:
        ids, words = np.array(sentence.ids), np.array(sentence.words)
        if self.preprocessor.options.objective == "prefix":
            span = np.array([np.argmax(words >= 0), len(ids)])
        else:
            span = np.flatnonzero(words == np.unique(words[words >= 0])[number])[[0, -1]] + np.array([0, 1])
        source, target, place = self.preprocessor.with_hidden(ids, span)
        asked = np.arange(len(target)) - place
        return {
            "input_ids": source,
            "decoder_input_ids": np.append(self.preprocessor.start, target[:-1]),
            "labels": np.where((asked >= 0) & (asked <= span[1] - span[0]), target, -100),
        }

    def lengths(self, sentence: Sentence) -> tuple[int, ...]:
        words = [word for word in sentence.words if word >= 0]
        _, sizes = np.unique(words, return_counts=True)
        # the source is the longest where the shortest word is hidden, the target where the longest is
        source, target = (self.row(sentence, int(number)) for number in (sizes.argmin(), sizes.argmax()))
        return len(source["input_ids"]), len(target["labels"])


def around(tokenizer: PreTrainedTokenizerBase) -> tuple[np.ndarray, np.ndarray]:
    """The special tokens before and behind a source."""
    bare, whole = tokenizer("a", add_special_tokens=False)["input_ids"], tokenizer("a")["input_ids"]
    start = next(at for at in range(len(whole)) if whole[at : at + len(bare)] == bare)
    before, behind = whole[:start], whole[start + len(bare) :]
    return np.array(before, dtype=np.int64), np.array(behind, dtype=np.int64)


def sentence_places(tokenizer: PreTrainedTokenizerBase) -> tuple[np.ndarray, np.ndarray]:
    """Of each token, whether it may end a sentence, as a full stop does, and whether it may begin one, as what begins with
    a space does, or any word where the tokenizer does not say."""
    largest = max(tokenizer.get_vocab().values())
    tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(range(largest + 1))]
    closing = [token.rstrip("\"')]").endswith((".", "!", "?")) for token in tokens]
    spaced = [token.startswith(SPACES) for token in tokens]
    opening = spaced if any(spaced) else [not token.startswith("##") for token in tokens]
    return np.array(closing), np.array(opening)


DENOISING = Task(
    name="denoising",
    also_called=("seq2seq-pretraining", "bart-pretraining", "span-corruption"),
    pipeline_tag="text-generation",
    auto_class=AutoModelForSeq2SeqLM,
    families=("trefoil_encoder_decoder",),
    roles=("text",),
    optional_roles=("other_text",),  # of the same row, and a text of its own: the other language of pairs
    options=DenoisingOptions,
    metrics=("perplexity",),
    minimized=("perplexity",),
    asked=("text",),
    reader=DenoisingReader,
    preprocessor=DenoisingPreprocessor,
    evaluator=DenoisingEvaluator,
    scorer=DenoisingScorer,
)
