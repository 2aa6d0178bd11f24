"""Causal language modelling (Radford et al. 2018): each token is predicted from those before it."""

import sys
from dataclasses import dataclass
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedConfig, PreTrainedModel

from ..configuration.errors import UserError
from ..data.tokenizer import LEFT_TO_RIGHT, STREAM, Template, bare_ids, token_id
from ..recipes.schema import Recipe
from .language_modeling import (
    METRICS,
    LanguageModelEvaluator,
    LanguageModelOptions,
    LanguageModelPreprocessor,
    LanguageModelReader,
)
from .preprocessor import INTS, Split, special_token_ids
from .reader import Rows
from .sentence_scorer import Row, Sentence, SentenceScorer
from .task import Task


@strict
@dataclass
class CausalLMOptions(LanguageModelOptions):
    stride: int | None = None  # in the final evaluation, rows begin so many tokens apart; default: they do not overlap


class CausalLMReader(LanguageModelReader):
    def __init__(self, task: Task, recipe: Recipe) -> None:
        super().__init__(task, recipe)
        if (stride := self.options.stride) is not None and stride < 1:
            raise UserError(f"options.stride={stride} must be positive")

    @property
    def template(self) -> Template:  # type: ignore[override]
        return STREAM if self.is_stream else LEFT_TO_RIGHT

    @property
    def needed_tokens(self) -> tuple[str, ...]:  # type: ignore[override]
        return () if self.is_stream else ("eos_token",)


class CausalLMPreprocessor(LanguageModelPreprocessor):
    features = {"input_ids": INTS}
    shifted = True

    @property
    def around(self) -> tuple[list[int], list[int]]:
        if self.reader.is_stream:
            return [], []
        end: Any = token_id(self.tokenizer, "eos_token")
        start = end if (first := token_id(self.tokenizer, "bos_token")) is None else first
        return [start], [end]

    def document_ids(self, texts: list[str]) -> list[dict[str, list[int]]]:
        start, end = self.around
        return [{"input_ids": [*start, *row, *end]} for row in bare_ids(self.tokenizer, texts)]

    def collate(self, rows: Rows) -> dict[str, torch.Tensor]:
        batch = super().collate(rows)
        # the model would shift `labels` itself, within each row; these are shifted within each document
        return batch | {"shift_labels": batch["labels"]}

    def generation_config(self, config: PreTrainedConfig, train: Split | None = None) -> GenerationConfig:
        return GenerationConfig(
            do_sample=True,
            top_k=50,
            max_new_tokens=self.recipe.evaluation.max_new_tokens or min(256, config.max_position_embeddings // 2),
            **special_token_ids(config),
        )


class CausalLMEvaluator(LanguageModelEvaluator):
    preprocessor: CausalLMPreprocessor

    def evaluate(self, model: PreTrainedModel, final: bool) -> dict[str, Any]:
        examples: Any = self.split.examples
        if final and self.reader.options.stride is not None:
            examples = self.preprocessor.packed(examples.encoded, self.reader.options.stride)
        found = [
            (int(indices[0]), float(output.loss), int((batch["labels"] != -100).sum()))
            for indices, batch, output in self.outputs(model, examples=examples)
        ]
        return self.scores(found)


class CausalLMScorer(SentenceScorer):
    """One row asks for every token, given those before it; of a document also for its end."""

    preprocessor: CausalLMPreprocessor
    end_word = sys.maxsize

    def row_count(self, sentence: Sentence) -> int:
        return int(any(word >= 0 for word in sentence.words))

    def row(self, sentence: Sentence, number: int) -> Row:
        asked = zip(sentence.ids[1:], sentence.words[1:], strict=True)
        return {"input_ids": sentence.ids[:-1], "labels": [token if word >= 0 else -100 for token, word in asked]}

    def lengths(self, sentence: Sentence) -> tuple[int, ...]:
        return (len(sentence.ids) - 1,)


CAUSAL_LM = Task(
    name="causal-lm",
    also_called=("clm", "lm", "language-model", "language-modeling", "text-generation", "gpt"),
    pipeline_tag="text-generation",
    auto_class=AutoModelForCausalLM,
    families=("trefoil_decoder",),
    roles=("text",),
    options=CausalLMOptions,
    metrics=METRICS,
    minimized=METRICS,
    asked=("text",),
    reader=CausalLMReader,
    preprocessor=CausalLMPreprocessor,
    evaluator=CausalLMEvaluator,
    scorer=CausalLMScorer,
)
