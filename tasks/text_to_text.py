"""Text to text: what translation and summarization have in common. An encoder-decoder learns pairs, and generates."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import evaluate
import numpy as np
import torch
from accelerate.utils import send_to_device
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..configuration.errors import UserError
from ..data.encoded import list_lengths
from ..data.streaming import SOURCE
from ..data.tokenizer import MASK, SPECIAL_TOKENS, TEXT_TO_TEXT, UNKNOWN, Template, decoder_start_id, token_id
from ..recipes.schema import Recipe
from .evaluator import Evaluator
from .preprocessor import CUT, INTS, EncodedRow, Preprocessor, Split, pad, special_token_ids
from .reader import Reader, Rows, beginning
from .task import Task

FAMILIES = ("trefoil_encoder_decoder", "trefoil_recurrent")
ROOM = 1.5  # generated texts may be so many times as long as the longest that was learned


class TextToTextReader(Reader):
    can_stream = True
    predicts_tokens = True
    source_keys: ClassVar[tuple[str, ...]] = ("tag",)
    needed_tokens = ("eos_token",)

    def __init__(self, task: Task, recipe: Recipe) -> None:
        super().__init__(task, recipe)
        for number, tag in enumerate(self.source_tags):
            if tag in {*SPECIAL_TOKENS.values(), *UNKNOWN.values(), *MASK.values()}:
                raise UserError(f"data.sources[{number}].tag: {tag} has a meaning of its own; take another word")

    @property
    def template(self) -> Template:  # type: ignore[override]
        return replace(TEXT_TO_TEXT, more=self.tags)

    def by_role(self, rows: dict[str, list]) -> Rows:
        """Of rows of several sources, also the number of each one's."""
        return super().by_role(rows) | ({SOURCE: rows[SOURCE]} if self.source_tags and SOURCE in rows else {})


class TextToTextPreprocessor(Preprocessor):
    """Pairs of `source` and `target`. A subclass may have something else than text for a source."""

    features = {"input_ids": INTS, "labels": INTS}
    encoded_as: ClassVar[dict[str, str]] = {"source": "input_ids", "target": "labels"}  # role of a text -> feature
    sides: ClassVar[tuple[str, ...]] = ("input_ids", "labels")

    def __init__(self, reader: Reader, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
        super().__init__(reader, tokenizer, config)
        self.start = config.decoder_start_token_id
        self.end: Any = token_id(tokenizer, "eos_token")

    @classmethod
    def model_fields(
        cls, reader: Reader, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, learned: dict[str, Any]
    ) -> dict[str, Any]:
        fields = super().model_fields(reader, tokenizer, config, learned)
        return fields | {"decoder_start_token_id": decoder_start_id(tokenizer, config)}

    def encode_rows(self, rows: Rows, is_scored: bool) -> list[EncodedRow | str]:
        problems = self.reader.problems(rows)
        return self._encoded_pairs(self._tagged(rows), problems, is_scored)

    def _tagged(self, rows: Rows) -> Rows:
        if SOURCE not in rows:
            return rows
        tags = (self.reader.source_tags[number] for number in rows[SOURCE])
        return rows | {"source": [f"{tag}{text}" for tag, text in zip(tags, rows["source"], strict=True)]}

    def _encoded_pairs(
        self, rows: Rows, problems: Sequence[str | None], is_scored: bool, called: dict[str, str] | None = None
    ) -> list[EncodedRow | str]:
        """
        Args:
            problems: What is wrong with each row already.
            called: What the reader calls the roles, where it is another name.
        """
        ids = {role: self._token_ids(role, rows[role]) for role in self.encoded_as}
        encoded: list[EncodedRow | str] = []
        for row, problem in enumerate(problems):
            made = EncodedRow([{feature: ids[role][row] for role, feature in self.encoded_as.items()}])
            for role, feature in self.encoded_as.items():
                length, limit = len(ids[role][row]), self._limit(role)
                if length <= limit or problem is not None:
                    continue
                if self.recipe.batches.truncate or (is_scored and self.recipe.data.invalid_examples == "skip"):
                    (made.examples[0][feature],) = self._token_ids(
                        role, [rows[role][row]], truncation=True, max_length=limit
                    )
                    made.notes[CUT] += 1
                else:
                    name = self.reader.column((called or {}).get(role, role))
                    problem = (
                        f"column {name!r} has {length} tokens, more than the model's {limit} "
                        "(batches.truncate=true cuts)"
                    )
            encoded.append(problem or made)
        return encoded

    def _limit(self, role: str) -> int:
        return self.max_target_length if self.encoded_as[role] == "labels" else self.max_source_length

    def _token_ids(self, role: str, texts: list[Any], **options: Any) -> list[list[int]]:
        """Token ids with an end token; a target without the start token, which the model puts there itself."""
        texts = [beginning(text, max(self.max_source_length, self.max_target_length)) for text in texts]
        if self.encoded_as[role] == "input_ids":
            return self.tokenizer(texts, verbose=False, **options)["input_ids"]
        ids = self.tokenizer(text_target=texts, verbose=False, **options)["input_ids"]
        ids = [row[1:] if row[:1] == [self.start] else row for row in ids]
        # mBART ends with the language, behind the end token
        return [row if self.end in row[-2:] else [*row, self.end] for row in ids]

    def _identity(self, is_scored: bool) -> list[Any]:
        sources = [(source.tag, source.directions) for source in self.recipe.data.sources]
        return [*super()._identity(is_scored), self.start, getattr(self.tokenizer, "tgt_lang", None), sources]

    def collate(self, rows: Rows) -> dict[str, torch.Tensor]:
        return {**self.padded(rows["input_ids"]), "labels": pad(rows["labels"], -100)}

    def tokens(self, batch: dict[str, torch.Tensor]) -> int:
        return batch["input_ids"].numel() + batch["labels"].numel()

    def generation_config(self, config: PreTrainedConfig, train: Split | None = None) -> GenerationConfig:
        """As long as the recipe says, or not much longer than what was learned."""
        evaluation = self.recipe.evaluation
        longest = evaluation.max_new_tokens
        if longest is None and train is not None:
            learned = int(list_lengths(train.examples, "labels").max())
            longest = min(self.max_target_length, math.ceil(ROOM * learned))
        return GenerationConfig(
            max_new_tokens=longest,
            num_beams=evaluation.num_beams,
            length_penalty=evaluation.length_penalty,
            early_stopping=evaluation.num_beams > 1,
            **special_token_ids(config),
        )


class TextToTextEvaluator(Evaluator):
    """Generates from the sources of the split and compares with its targets."""

    preprocessor: TextToTextPreprocessor
    quality: ClassVar[Callable[..., evaluate.Metric]]  # what compares the generated texts with the targets

    def sources(self) -> tuple[np.ndarray, Callable[[np.ndarray], dict[str, torch.Tensor]]]:
        """What is generated from: its lengths in tokens `(examples,)`, and what makes a batch of those with given indices."""
        examples: Any = self.split.examples
        return (
            list_lengths(examples, "input_ids"),
            lambda indices: self.preprocessor.padded(examples[indices]["input_ids"]),
        )

    @torch.no_grad()
    def evaluate(self, model: PreTrainedModel, final: bool) -> dict[str, Any]:
        lengths, batch_of = self.sources()
        generation = self.preprocessor.generation_config(model.config)
        if generation.max_new_tokens is None:  # a trained model knows
            generation.max_new_tokens = model.generation_config.max_new_tokens or self.preprocessor.max_target_length
        if not final:
            generation.num_beams = self.recipe.evaluation.num_beams_while_training
            generation.early_stopping = generation.num_beams > 1
        predictions: list[tuple[int, str]] = []
        for indices in self.shared_batches(np.stack([lengths, lengths], axis=1), "generating"):
            outputs = model.generate(**send_to_device(batch_of(indices), model.device), generation_config=generation)
            texts = self.preprocessor.tokenizer.batch_decode(outputs, skip_special_tokens=True)
            predictions += zip((int(index) for index in indices), texts, strict=True)
        return self.compared([text for _, text in self.gathered(predictions)])

    def compared(self, texts: list[str]) -> dict[str, Any]:
        """Scores of what was generated for each encoded example, and it."""
        return {**self.quality_of(texts, self.references()), "predictions": texts}

    def references(self) -> list[Any]:
        """What the generated text of each row is compared with."""
        return list(self.split.rows[self.reader.column(self.reader.roles[1])])

    def quality_of(self, texts: list[str], references: list[Any], **options: Any) -> dict[str, Any]:
        return type(self).quality(keep_in_memory=True).compute(predictions=texts, references=references, **options)
