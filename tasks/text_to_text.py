"""Text to text: what translation and summarization have in common. An encoder-decoder learns pairs, and generates."""

from collections.abc import Callable
from typing import Any, ClassVar

import datasets
import evaluate
import numpy as np
import torch
from accelerate.utils import send_to_device
from transformers import AutoModelForSeq2SeqLM, GenerationConfig, PreTrainedConfig, PreTrainedModel

from ..data.batching import plan_in_order
from ..data.progress import progress_bar
from ..data.tokenizer import TEXT_TO_TEXT
from .base import INTS, Encoded, Task, beginning, gathered, pad, text_problem


class TextToTextTask(Task):
    """Pairs of `source` and `target`. A subclass may generate from something else than text."""

    auto_class = AutoModelForSeq2SeqLM
    family: ClassVar[tuple[str, ...]] = ("trefoil_encoder_decoder", "trefoil_recurrent")
    roles = ("source", "target")
    features = {"input_ids": INTS, "labels": INTS}
    encoded_as: ClassVar[dict[str, str]] = {"source": "input_ids", "target": "labels"}  # role of a text -> feature
    sides: ClassVar[tuple[str, ...]] = ("input_ids", "labels")
    template = TEXT_TO_TEXT

    def quality(self) -> evaluate.Metric:
        """What compares the generated texts with the targets."""
        raise NotImplementedError

    def prepare_config(self, config: PreTrainedConfig) -> None:
        super().prepare_config(config)
        start = self.tokenizer.bos_token_id
        config.decoder_start_token_id = self.tokenizer.pad_token_id if start is None else start

    def encode_rows(self, rows: dict[str, list]) -> list[Encoded]:
        problems = self.scoring_problems(rows)
        ids = {role: self._token_ids(role, rows[role]) for role in self.encoded_as}
        encoded: list[Encoded] = []
        for row, problem in enumerate(problems):
            for role in self.encoded_as:
                length, limit = len(ids[role][row]), self._limit(role)
                if length > limit and self.recipe.batches.truncate:
                    ids[role][row] = self._cut(role, rows[role][row], limit)
                elif length > limit and problem is None:
                    problem = (
                        f"column {self.column(role)!r} has {length} tokens, more than the model's {limit} "
                        "(batches.truncate=true cuts)"
                    )
            encoded.append(problem or [{feature: ids[role][row] for role, feature in self.encoded_as.items()}])
        return encoded

    def _limit(self, role: str) -> int:
        source, target = self.max_lengths()
        return target if self.encoded_as[role] == "labels" else source

    def _cut(self, role: str, text: str, limit: int) -> list[int]:
        self.cut_texts += 1
        (ids,) = self._token_ids(role, [text], truncation=True, max_length=limit)
        return ids

    def _token_ids(self, role: str, texts: list[Any], **options: Any) -> list[list[int]]:
        """Token ids with an end token; a target without the start token, which the model puts there itself."""
        texts = [beginning(text, max(self.max_lengths())) for text in texts]
        if self.encoded_as[role] == "input_ids":
            return self.tokenizer(texts, verbose=False, **options)["input_ids"]
        ids = self.tokenizer(text_target=texts, verbose=False, **options)["input_ids"]
        start, end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        ids = [row[1:] if row[:1] == [start] else row for row in ids]
        return [row if row[-1:] == [end] else [*row, end] for row in ids]

    def scoring_problems(self, rows: dict[str, list]) -> list[str | None]:
        """A source that is too long is cut when it is generated from."""
        return [
            text_problem(self.column("source"), source) or text_problem(self.column("target"), target)
            for source, target in zip(rows["source"], rows["target"], strict=True)
        ]

    def collate(self, rows: dict[str, list]) -> dict[str, torch.Tensor]:
        return {**self.padded(rows["input_ids"]), "labels": pad(rows["labels"], -100)}

    def tokens(self, batch: dict[str, torch.Tensor]) -> int:
        return batch["input_ids"].numel() + batch["labels"].numel()

    def generation_config(self, config: PreTrainedConfig) -> GenerationConfig:
        evaluation = self.recipe.evaluation
        return GenerationConfig(
            max_new_tokens=evaluation.max_new_tokens or self.max_lengths()[1],
            num_beams=evaluation.num_beams,
            length_penalty=evaluation.length_penalty,
            early_stopping=evaluation.num_beams > 1,
            pad_token_id=config.pad_token_id,
            bos_token_id=config.bos_token_id,
            eos_token_id=config.eos_token_id,
            decoder_start_token_id=config.decoder_start_token_id,
        )

    def sources(self, examples: datasets.Dataset) -> tuple[np.ndarray, Callable[[np.ndarray], dict[str, torch.Tensor]]]:
        """What is generated from: its lengths in tokens `(examples,)`, and what makes a batch of those with given indices."""
        column = examples[self.column("source")]
        ids = self._token_ids("source", column, truncation=True, max_length=self._limit("source"))
        return np.array([len(row) for row in ids]), lambda indices: self.padded([ids[index] for index in indices])

    @torch.no_grad()
    def evaluate(
        self, model: PreTrainedModel, examples: datasets.Dataset, accelerator: Any, final: bool
    ) -> dict[str, Any]:
        lengths, batch_of = self.sources(examples)
        plan = plan_in_order(np.stack([lengths, lengths], axis=1), self.recipe.evaluation.tokens_per_batch)
        mine = plan[accelerator.process_index :: accelerator.num_processes]
        generation = self.generation_config(model.config)
        if not final:
            generation.num_beams = self.recipe.evaluation.num_beams_while_training
            generation.early_stopping = generation.num_beams > 1
        predictions: list[tuple[int, str]] = []
        for indices in progress_bar(mine, "generating", accelerator.is_main_process):
            outputs = model.generate(**send_to_device(batch_of(indices), model.device), generation_config=generation)
            texts = self.tokenizer.batch_decode(outputs, skip_special_tokens=True)
            predictions += zip((int(index) for index in indices), texts, strict=True)
        texts = [text for _, text in gathered(predictions, accelerator)]
        references = list(examples[self.column(self.roles[1])])
        return {**self.quality().compute(predictions=texts, references=references), "predictions": texts}
