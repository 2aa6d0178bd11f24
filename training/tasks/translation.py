"""Translation: sentence pairs, an encoder-decoder, BLEU."""

from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np
import torch
from accelerate.utils import gather_object, send_to_device
from transformers import AutoModelForSeq2SeqLM, GenerationConfig, PreTrainedConfig, PreTrainedModel

from ...configuration.errors import UserError
from ..batching import plan_in_order
from ..metrics.translation import TranslationQuality
from ..progress import progress_bar
from .base import Task


class TranslationTask(Task):
    name = "translation"
    auto_class = AutoModelForSeq2SeqLM
    family = ("trefoil_encoder_decoder",)
    sides = ("input_ids", "labels")
    metrics = ("bleu", "chrf", "exact_match")

    def columns(self) -> list[str]:
        return [self.recipe.data.source, self.recipe.data.target]

    def texts(self, examples: datasets.Dataset) -> Iterator[list[str]]:
        for batch in examples.select_columns(self.columns()).iter(batch_size=1000):
            for name in self.columns():
                yield [text for text in batch[name] if isinstance(text, str)]

    def prepare_config(self, config: PreTrainedConfig) -> None:
        for part in (config, config.encoder, config.decoder):
            part.pad_token_id = self.tokenizer.pad_token_id
            part.eos_token_id = self.tokenizer.eos_token_id
            part.bos_token_id = self.tokenizer.bos_token_id
        self.positions = config.encoder.max_position_embeddings, config.decoder.max_position_embeddings
        self.tokenizer.model_max_length = min(self.tokenizer.model_max_length, self.max_lengths()[0])
        start = self.tokenizer.bos_token_id
        config.decoder_start_token_id = self.tokenizer.pad_token_id if start is None else start

    def max_lengths(self) -> tuple[int, int]:
        """Longest source and target in tokens, the end token included."""
        batches = self.recipe.batches
        source, target = self.positions
        return min(batches.max_source_length or source, source), min(batches.max_target_length or target, target)

    def encode(self, examples: datasets.Dataset, where: str) -> datasets.Dataset:
        source, target = self.columns()
        limits = dict(zip(self.columns(), self.max_lengths(), strict=True))
        skip = self.recipe.data.invalid_examples == "skip"

        def encode_rows(rows: dict[str, list], indices: list[int]) -> dict[str, list]:
            problems: dict[int, str] = {}
            encoded = {}
            for name in (source, target):
                texts = []
                for position, text in enumerate(rows[name]):
                    if problem := _text_problem(name, text):
                        problems.setdefault(position, problem)
                    texts.append(text if isinstance(text, str) else "")
                encoded[name] = self.tokenizer(texts, verbose=False)["input_ids"]
                for position, ids in enumerate(encoded[name]):
                    if len(ids) > limits[name]:
                        problems.setdefault(
                            position, f"column {name!r} has {len(ids)} tokens, more than the model's {limits[name]}"
                        )
            if problems and not skip:
                position, problem = min(problems.items())
                raise _invalid(where, indices[position], problem)
            keep = [position for position in range(len(indices)) if position not in problems]
            return {
                "input_ids": [encoded[source][position] for position in keep],
                "labels": [encoded[target][position] for position in keep],
            }

        in_memory = len(examples) < 1_000_000
        encoded = examples.map(
            encode_rows,
            batched=True,
            with_indices=True,
            remove_columns=examples.column_names,
            features=datasets.Features({side: datasets.List(datasets.Value("int32")) for side in self.sides}),
            keep_in_memory=in_memory,
            load_from_cache_file=not in_memory,  # a large split is encoded by one process and read by the others
            desc=f"encoding {where}",
        )
        if len(encoded) == 0:
            raise UserError(f"{where}: no valid example is left of {len(examples)}")
        return encoded

    def scorable(self, examples: datasets.Dataset, where: str) -> datasets.Dataset:
        keep = []
        for index, row in enumerate(examples.select_columns(self.columns())):
            problems = [problem for name, text in row.items() if (problem := _text_problem(name, text))]
            if not problems:
                keep.append(index)
            elif self.recipe.data.invalid_examples == "error":
                raise _invalid(where, index, problems[0])
        if not keep:
            raise UserError(f"{where}: no valid example is left of {len(examples)}")
        return examples if len(keep) == len(examples) else examples.select(keep)

    def collate(self, rows: dict[str, list]) -> dict[str, torch.Tensor]:
        return {**self._sources(rows["input_ids"]), "labels": _pad(rows["labels"], -100)}

    def _sources(self, rows: list[list[int]]) -> dict[str, torch.Tensor]:
        return {
            "input_ids": _pad(rows, self.tokenizer.pad_token_id),
            "attention_mask": _pad([[1] * len(ids) for ids in rows], 0),
        }

    def generation_config(self, config: PreTrainedConfig) -> GenerationConfig:
        """How the published model translates unless told otherwise."""
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

    @torch.no_grad()
    def evaluate(
        self, model: PreTrainedModel, examples: datasets.Dataset, accelerator: Any, final: bool
    ) -> dict[str, Any]:
        source, target = self.columns()
        limit = self.max_lengths()[0]
        encoded = self.tokenizer(list(examples[source]), truncation=True, max_length=limit)["input_ids"]
        lengths = np.array([[len(ids), len(ids)] for ids in encoded])
        plan = plan_in_order(lengths, self.recipe.evaluation.tokens_per_batch)
        mine = plan[accelerator.process_index :: accelerator.num_processes]
        generation = self.generation_config(model.config)
        if not final:
            generation.num_beams = self.recipe.evaluation.num_beams_while_training
            generation.early_stopping = generation.num_beams > 1
        predictions: list[tuple[int, str]] = []
        for indices in progress_bar(mine, "translating", accelerator.is_main_process):
            sources = send_to_device(self._sources([encoded[index] for index in indices]), model.device)
            outputs = model.generate(**sources, generation_config=generation)
            texts = self.tokenizer.batch_decode(outputs, skip_special_tokens=True)
            predictions += zip((int(index) for index in indices), texts, strict=True)
        if accelerator.num_processes > 1:
            predictions = gather_object(predictions)
        texts = [text for _, text in sorted(predictions)]
        scores = TranslationQuality(keep_in_memory=True).compute(predictions=texts, references=list(examples[target]))
        return {**scores, "predictions": texts}


def _text_problem(column: str, text: Any) -> str | None:
    if not isinstance(text, str):
        return f"column {column!r} holds {text!r}, not a text"
    return None if text.strip() else f"column {column!r} is empty"


def _invalid(where: str, index: int, problem: str) -> UserError:
    return UserError(f"{where} example {index + 1}: {problem}; mend it or set data.invalid_examples=skip")


def _pad(rows: list[list[int]], value: int) -> torch.Tensor:
    """Rows of ids as `(rows, longest)`, filled up on the right."""
    length = max(map(len, rows))
    return torch.tensor([list(row) + [value] * (length - len(row)) for row in rows])
