"""Text classification: a text or a pair of texts gets one label, several labels or a number."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import datasets
import evaluate
import torch
from huggingface_hub.dataclasses import strict
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from ..configuration.errors import UserError
from .base import FLOAT, INT, INTS, Encoded, beginning, gathered, shortened, text_problem
from .labelled import LabelledTask
from .metrics.classification import ClassificationQuality, MultiLabelQuality, RegressionQuality

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]

METRICS = {
    "single_label_classification": ("accuracy", "macro_f1", "matthews"),
    "multi_label_classification": ("micro_f1", "macro_f1", "exact_match"),
    "regression": ("pearson", "spearman", "mean_squared_error"),
}
QUALITIES: dict[str, type[evaluate.Metric]] = {
    "single_label_classification": ClassificationQuality,
    "multi_label_classification": MultiLabelQuality,
    "regression": RegressionQuality,
}


@strict
@dataclass
class TextClassificationOptions:
    problem_type: ProblemType | None = None  # default: by the labels, which are texts or integers, lists, or fractions
    names: dict[Any, str] = field(default_factory=dict)  # of labels that are numbers: {0: negative, 1: positive}


class TextClassificationTask(LabelledTask):
    """`text`, or `text` and `text_pair`, and `label`: a text or integer, a list of them, or a number to estimate."""

    name = "text-classification"
    auto_class = AutoModelForSequenceClassification
    family = ("trefoil_encoder", "trefoil_decoder")
    roles = ("text", "label")
    optional_roles = ("text_pair",)
    options_class = TextClassificationOptions
    metrics = tuple(dict.fromkeys(name for names in METRICS.values() for name in names))
    minimized = ("mean_squared_error",)
    problem_type: str | None = None
    label_role = "label"

    def text_roles(self) -> tuple[str, ...]:
        return "text", "text_pair"

    @property
    def features(self) -> dict[str, Any]:  # type: ignore[override]
        kinds = {"regression": FLOAT, "multi_label_classification": datasets.List(FLOAT)}
        return {"input_ids": INTS, "labels": kinds.get(str(self.problem_type), INT)}

    def learn(self, train: datasets.Dataset) -> None:
        name = str(self.column("label"))
        self.take_names(train)
        values = [value for value in train[name] if not _is_empty(value)]
        self.problem_type = self.options.problem_type or _problem_type(values)
        self.metrics = METRICS[self.problem_type]
        self.check_metric()
        if self.problem_type == "regression":
            return
        if self.problem_type == "multi_label_classification":
            values = [
                label for labels in values if isinstance(labels, list) for label in labels if not _is_empty(label)
            ]
        if wrong := [value for value in values if isinstance(value, list | dict)]:
            raise UserError(f"column {name!r} holds {shortened(repr(wrong[0]))}, which is no label")
        self.check_names(values)
        if self.class_label is not None:
            self.labels = list(self.class_label.names)
        else:
            self.labels = list(dict.fromkeys(str(self.name_of(value)) for value in _in_order(values)))
        if not self.labels:
            raise UserError(f"column {name!r} has no label in the training data")
        if len(self.labels) < 2 and self.problem_type == "single_label_classification":
            raise UserError(
                f"column {name!r} has the only label {self.labels}; there must be at least two to tell apart"
            )

    def head_is_new(self, config: PreTrainedConfig) -> bool:
        if self.problem_type == "regression":
            return config.problem_type != "regression"
        return super().head_is_new(config)

    def prepare_config(self, config: PreTrainedConfig) -> None:
        super().prepare_config(config)
        if self.problem_type is None:  # a trained model knows
            self.problem_type = config.problem_type or "single_label_classification"
            self.metrics = METRICS[self.problem_type]
        config.problem_type = self.problem_type
        if self.problem_type == "regression":
            config.num_labels = 1
            return
        known = [config.id2label[number] for number in sorted(config.id2label)]
        if self.labels is None or set(known) == set(self.labels):
            self.labels = known
        config.id2label = dict(enumerate(self.labels))
        config.label2id = {name: number for number, name in enumerate(self.labels)}

    def encode_rows(self, rows: dict[str, list]) -> list[Encoded]:
        texts = [rows[role] for role in self.text_roles() if role in rows]
        columns = [self.column(role) for role in self.text_roles() if role in rows]
        limit = self.max_lengths()[0]
        clean = [[beginning(text, limit) for text in column] for column in texts]
        encodings = self.tokenizer(*clean, verbose=False)["input_ids"]
        encoded: list[Encoded] = []
        for row, (ids, value) in enumerate(zip(encodings, rows["label"], strict=True)):
            problems = [text_problem(name, column[row]) for name, column in zip(columns, texts, strict=True)]
            label, problem = self._encode_label(value)
            problem = next((found for found in (*problems, problem) if found), None)
            if problem is None and len(ids) > limit:
                if self.recipe.batches.truncate:
                    ids = self.tokenizer(*(column[row] for column in clean), truncation=True, max_length=limit)[
                        "input_ids"
                    ]
                    self.cut_texts += 1
                else:
                    problem = f"{len(ids)} tokens are more than the model's {limit} (batches.truncate=true cuts)"
            encoded.append(problem or [{"input_ids": ids, "labels": label}])
        return encoded

    def _encode_label(self, value: Any) -> tuple[Any, str | None]:
        """What the model is to say, or what is wrong with a label."""
        column = self.column("label")
        if _is_empty(value):
            return None, f"column {column!r} is empty"
        if self.problem_type == "regression":
            try:
                number = float(value)
            except (TypeError, ValueError):
                number = math.nan
            return number, None if math.isfinite(number) else f"column {column!r} holds {value!r}, not a number"
        assert self.labels is not None  # learned, or taken from the model
        if self.problem_type == "multi_label_classification":
            if not isinstance(value, list):
                return None, f"column {column!r} holds {shortened(repr(value))}, not a list of labels"
            names = {str(self.name_of(label)) for label in value}
        else:
            names = {str(self.name_of(value))}
        if unseen := sorted(names - set(self.labels)):
            known = shortened(", ".join(self.labels), 200)
            return None, f"column {column!r} has the label {unseen[0]!r}, which training data has not; it has {known}"
        if self.problem_type == "multi_label_classification":
            return [float(label in names) for label in self.labels], None
        return self.labels.index(names.pop()), None

    def collate(self, rows: dict[str, list]) -> dict[str, torch.Tensor]:
        dtype = torch.long if self.problem_type == "single_label_classification" else torch.float
        return {**self.padded(rows["input_ids"]), "labels": torch.tensor(rows["labels"], dtype=dtype)}

    @torch.no_grad()
    def evaluate(
        self, model: PreTrainedModel, examples: datasets.Dataset, accelerator: Any, final: bool
    ) -> dict[str, Any]:
        encoded = self.encode(examples, "the evaluated split")
        found = []
        for indices, batch, output in self.outputs(model, encoded, accelerator):
            loss = float(output.loss) / batch["labels"].numel()
            answers = self._answers(output.logits.float())
            found += [(int(index), answer, loss) for index, answer in zip(indices, answers, strict=True)]
        found = gathered(found, accelerator)
        answers = [answer for _, answer, _ in found]
        quality = QUALITIES[str(self.problem_type)](keep_in_memory=True)
        scores = quality.compute(predictions=answers, references=encoded["labels"])
        return {
            **scores,
            "loss": sum(loss for _, _, loss in found) / len(found),
            "predictions": [self._spoken(answer) for answer in answers],
        }

    def _answers(self, logits: torch.Tensor) -> list:
        if self.problem_type == "regression":
            return logits[:, 0].tolist()
        if self.problem_type == "multi_label_classification":
            return (logits > 0).long().tolist()
        return logits.argmax(dim=-1).tolist()

    def _spoken(self, answer: Any) -> Any:
        """A prediction in the words of the data."""
        if self.problem_type == "regression":
            return answer
        assert self.labels is not None
        if self.problem_type == "multi_label_classification":
            return [label for label, is_given in zip(self.labels, answer, strict=True) if is_given]
        return self.labels[answer]


def _is_empty(label: Any) -> bool:
    """Whether there is none; in a CSV file that is an empty text."""
    return label is None or (isinstance(label, str) and not label.strip())


def _problem_type(values: list) -> ProblemType:
    if any(isinstance(value, list) for value in values):
        return "multi_label_classification"
    if any(isinstance(value, float) for value in values):
        return "regression"
    return "single_label_classification"


def _in_order(values: Iterable) -> list:
    """Distinct labels: numbers by size, else by the alphabet."""
    distinct = set(values)
    try:
        return sorted(distinct, key=int)
    except (TypeError, ValueError):
        return sorted(distinct, key=str)
