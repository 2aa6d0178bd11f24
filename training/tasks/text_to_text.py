"""Text to text: what translation and summarization have in common. An encoder-decoder learns pairs, and generates."""

from typing import Any

import datasets
import evaluate
import numpy as np
import torch
from accelerate.utils import send_to_device
from transformers import AutoModelForSeq2SeqLM, GenerationConfig, PreTrainedConfig, PreTrainedModel

from ..batching import plan_in_order
from ..progress import progress_bar
from ..tokenizer import TEXT_TO_TEXT
from .base import INTS, Encoded, Task, beginning, gathered, pad, text_problem


class TextToTextTask(Task):
    """Pairs of `source` and `target`."""

    auto_class = AutoModelForSeq2SeqLM
    family = ("trefoil_encoder_decoder", "trefoil_recurrent")
    roles = ("source", "target")
    features = {"input_ids": INTS, "labels": INTS}
    sides = ("input_ids", "labels")
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
        limits = dict(zip(self.roles, self.max_lengths(), strict=True))
        ids = {role: self._token_ids(role, rows[role]) for role in self.roles}
        encoded: list[Encoded] = []
        for row, problem in enumerate(problems):
            for role, limit in limits.items():
                length = len(ids[role][row])
                if length > limit and self.recipe.batches.truncate:
                    ids[role][row] = self._cut(role, rows[role][row], limit)
                elif length > limit and problem is None:
                    problem = (
                        f"column {self.column(role)!r} has {length} tokens, more than the model's {limit} "
                        "(batches.truncate=true cuts)"
                    )
            encoded.append(problem or [{"input_ids": ids["source"][row], "labels": ids["target"][row]}])
        return encoded

    def _cut(self, role: str, text: str, limit: int) -> list[int]:
        self.cut_texts += 1
        (ids,) = self._token_ids(role, [text], truncation=True, max_length=limit)
        return ids

    def _token_ids(self, role: str, texts: list[Any], **options: Any) -> list[list[int]]:
        """Token ids with an end token; a target without the start token, which the model puts there itself."""
        texts = [beginning(text, max(self.max_lengths())) for text in texts]
        if role == "source":
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

    @torch.no_grad()
    def evaluate(
        self, model: PreTrainedModel, examples: datasets.Dataset, accelerator: Any, final: bool
    ) -> dict[str, Any]:
        source, target = self.columns()
        sources = self._token_ids("source", examples[source], truncation=True, max_length=self.max_lengths()[0])
        lengths = np.array([[len(ids), len(ids)] for ids in sources])
        plan = plan_in_order(lengths, self.recipe.evaluation.tokens_per_batch)
        mine = plan[accelerator.process_index :: accelerator.num_processes]
        generation = self.generation_config(model.config)
        if not final:
            generation.num_beams = self.recipe.evaluation.num_beams_while_training
            generation.early_stopping = generation.num_beams > 1
        predictions: list[tuple[int, str]] = []
        for indices in progress_bar(mine, "generating", accelerator.is_main_process):
            batch = send_to_device(self.padded([sources[index] for index in indices]), model.device)
            outputs = model.generate(**batch, generation_config=generation)
            texts = self.tokenizer.batch_decode(outputs, skip_special_tokens=True)
            predictions += zip((int(index) for index in indices), texts, strict=True)
        texts = [text for _, text in gathered(predictions, accelerator)]
        scores = self.quality().compute(predictions=texts, references=list(examples[target]))
        return {**scores, "predictions": texts}
