"""Text classification: a text or a pair of texts gets one label, several labels or a number."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import datasets
import evaluate
import torch
from huggingface_hub.dataclasses import strict
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ..configuration.errors import UserError
from ..recipes.schema import Recipe
from .evaluator import Evaluator
from .labelled import LabelledPreprocessor, LabelledReader, label_fields
from .metrics.classification import ClassificationQuality, MultiLabelQuality, RegressionQuality
from .metrics.paired import label_measure
from .preprocessor import CUT, FLOAT, INT, INTS, EncodedRow, pad
from .reader import Reader, Rows, beginning, shortened
from .task import Task

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]

METRICS = {
    "single_label_classification": ("accuracy", "macro_f1", "matthews"),
    "multi_label_classification": ("micro_f1", "macro_f1", "exact_match"),
    "regression": ("pearson", "spearman", "mean_squared_error"),
}
DIGITS = 4  # of probabilities; more are not the same in batches of another size
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
    label_separator: str | None = None  # of several labels in one text: "|" in "food|price"; an empty text has none


class TextClassificationReader(LabelledReader):
    """`text`, or `text` and `text_pair`, and `label`: a text or integer, a list of them, or a number to estimate."""

    label_role = "label"

    def __init__(self, task: Task, recipe: Recipe) -> None:
        super().__init__(task, recipe)
        separator, problem_type = self.options.label_separator, self.options.problem_type
        if separator is not None and not separator.strip():
            raise UserError(f"options.label_separator={separator!r} must be a character between labels, such as |")
        if separator is not None and problem_type not in (None, "multi_label_classification"):
            raise UserError(
                f"options.label_separator is of several labels, and options.problem_type={problem_type} of one"
            )

    def prepared(self, examples: datasets.Dataset, where: str) -> datasets.Dataset:
        examples = super().prepared(examples, where)
        if self.options.label_separator is None:
            return examples
        column = str(self.column("label"))
        if not isinstance(examples.features[column], datasets.Value):
            raise UserError(f"{where}: column {column!r} holds lists already; leave options.label_separator out")
        return examples.map(
            lambda values: {column: [split_labels(value, self.options.label_separator) for value in values]},
            batched=True,
            input_columns=[column],
            features=datasets.Features({**examples.features, column: datasets.List(datasets.Value("string"))}),
            desc=f"dividing the labels of {where}",
        )

    def text_roles(self) -> tuple[str, ...]:
        return "text", "text_pair"

    def problems(self, rows: Rows) -> list[str | None]:
        empty = f"column {self.column('label')!r} is empty"
        found = zip(super().problems(rows), rows["label"], strict=True)
        return [problem or (empty if _is_empty(label) else None) for problem, label in found]

    def own_names(self, examples: datasets.Dataset) -> list[str] | None:
        return None if self.options.problem_type == "regression" else super().own_names(examples)

    def learn(self, train: datasets.Dataset) -> dict[str, Any]:
        name = str(self.column("label"))
        values = [value for value in self.prepared(train, "the training data")[name] if not _is_empty(value)]
        problem_type = self.options.problem_type or _problem_type(values)
        self.require_metric(METRICS[problem_type])
        if problem_type == "regression":
            return {"problem_type": problem_type, "num_labels": 1}
        if problem_type == "multi_label_classification":
            values = [
                label for labels in values if isinstance(labels, list) for label in labels if not _is_empty(label)
            ]
        if wrong := [value for value in values if isinstance(value, list | dict)]:
            raise UserError(f"column {name!r} holds {shortened(repr(wrong[0]))}, which is no label")
        self.check_names(train, values)
        labels = list(dict.fromkeys(str(self.name_of(value)) for value in self.own_names(train) or _in_order(values)))
        if not labels:
            raise UserError(f"column {name!r} has no label in the training data")
        if len(labels) < 2 and problem_type == "single_label_classification":
            raise UserError(f"column {name!r} has the only label {labels}; there must be at least two to tell apart")
        return {"problem_type": problem_type, **label_fields(labels)}

    def head_is_new(self, config: PreTrainedConfig, learned: dict[str, Any]) -> bool:
        if learned.get("problem_type") == "regression":
            return config.problem_type != "regression"
        return super().head_is_new(config, learned)


class TextClassificationPreprocessor(LabelledPreprocessor):
    def __init__(self, reader: LabelledReader, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
        super().__init__(reader, tokenizer, config)
        self.problem_type: ProblemType = config.problem_type
        kinds = {"regression": FLOAT, "multi_label_classification": datasets.List(FLOAT)}
        # whether the model tells the texts of a pair apart by token types, as stock ones do
        self.has_types = (
            reader.column("text_pair") is not None
            and "token_type_ids" in tokenizer.model_input_names
            and getattr(config, "type_vocab_size", 0) > 1
        )
        types = {"token_type_ids": INTS} if self.has_types else {}
        self.features = {"input_ids": INTS, **types, "labels": kinds.get(self.problem_type, INT)}

    @classmethod
    def model_fields(
        cls, reader: Reader, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, learned: dict[str, Any]
    ) -> dict[str, Any]:
        """A model that does not say its problem type tells texts apart or, with a single output, estimates a number."""
        fields = super().model_fields(reader, tokenizer, config, learned)
        usual = "regression" if config.num_labels == 1 else "single_label_classification"
        return {"problem_type": config.problem_type or usual, **fields}

    def _identity(self, is_scored: bool) -> list[Any]:
        return [*super()._identity(is_scored), self.problem_type, self.has_types]

    def encode_rows(self, rows: Rows, is_scored: bool) -> list[EncodedRow | str]:
        limit = self.max_source_length
        texts = [[beginning(text, limit) for text in rows[role]] for role in self.reader.text_roles() if role in rows]
        inputs = [name for name in self.features if name != "labels"]
        encodings = self.tokenizer(*texts, verbose=False)
        encoded: list[EncodedRow | str] = []
        for row, problem in enumerate(self.reader.problems(rows)):
            example = {name: encodings[name][row] for name in inputs}
            label, wrong = self._encode_label(rows["label"][row])
            problem, notes, length = problem or wrong, Counter[str](), len(example["input_ids"])
            if problem is None and length > limit:
                if self.recipe.batches.truncate:
                    cut = self.tokenizer(*(column[row] for column in texts), truncation=True, max_length=limit)
                    example, notes = {name: cut[name] for name in inputs}, Counter({CUT: 1})
                else:
                    problem = f"{length} tokens are more than the model's {limit} (batches.truncate=true cuts)"
            encoded.append(problem or EncodedRow([{**example, "labels": label}], notes))
        return encoded

    def _encode_label(self, value: Any) -> tuple[Any, str | None]:
        """What the model is to say, or what is wrong with a label."""
        column = self.reader.column("label")
        if self.problem_type == "regression":
            try:
                number = float(value)
            except (TypeError, ValueError):
                number = math.nan
            return number, None if math.isfinite(number) else f"column {column!r} holds {value!r}, not a number"
        if self.problem_type == "multi_label_classification":
            if not isinstance(value, list):
                return None, f"column {column!r} holds {shortened(repr(value))}, not a list of labels"
            names = {str(self.reader.name_of(label)) for label in value}
        else:
            names = {str(self.reader.name_of(value))}
        if unseen := sorted(names - set(self.labels)):
            known = shortened(", ".join(self.labels), 200)
            return None, f"column {column!r} has the label {unseen[0]!r}, which training data has not; it has {known}"
        if self.problem_type == "multi_label_classification":
            return [float(label in names) for label in self.labels], None
        return self.labels.index(names.pop()), None

    def collate(self, rows: Rows) -> dict[str, torch.Tensor]:
        dtype = torch.long if self.problem_type == "single_label_classification" else torch.float
        types = {"token_type_ids": pad(rows["token_type_ids"], 0)} if self.has_types else {}
        return {**self.padded(rows["input_ids"]), **types, "labels": torch.tensor(rows["labels"], dtype=dtype)}


class TextClassificationEvaluator(Evaluator):
    preprocessor: TextClassificationPreprocessor

    @property
    def metrics(self) -> tuple[str, ...]:
        return METRICS[self.preprocessor.problem_type]

    def evaluate(self, model: PreTrainedModel, final: bool) -> dict[str, Any]:
        found = []
        for indices, batch, output in self.outputs(model):
            loss = float(output.loss) / batch["labels"].numel()
            logits = output.logits.float()
            rows = zip(indices, self._answers(logits), self._probabilities(logits), strict=True)
            found += [(int(index), answer, probability, loss) for index, answer, probability in rows]
        found = self.gathered(found)
        answers = [answer for _, answer, _, _ in found]
        quality = QUALITIES[self.preprocessor.problem_type](keep_in_memory=True)
        return {
            **quality.compute(predictions=answers, references=self.split.examples["labels"]),
            "loss": sum(loss for *_, loss in found) / len(found),
            "predictions": [self._spoken(answer) for answer in answers],
            "details": [self._details(answer, probability) for _, answer, probability, _ in found],
        }

    def references(self) -> list[Any]:
        return [self._spoken(label) for label in self.split.examples["labels"]]  # type: ignore[call-overload]

    def _answers(self, logits: torch.Tensor) -> list:
        if self.preprocessor.problem_type == "regression":
            return logits[:, 0].tolist()
        if self.preprocessor.problem_type == "multi_label_classification":
            return (logits > 0).long().tolist()
        return logits.argmax(dim=-1).tolist()

    def _probabilities(self, logits: torch.Tensor) -> list:
        """Of the one label that is given, or of each that may be; of a number there is none."""
        if self.preprocessor.problem_type == "regression":
            return [None] * len(logits)
        if self.preprocessor.problem_type == "multi_label_classification":
            return logits.sigmoid().tolist()
        return logits.softmax(dim=-1).amax(dim=-1).tolist()

    def _details(self, answer: Any, probability: Any) -> dict[str, Any]:
        if self.preprocessor.problem_type == "regression":
            return {}
        if self.preprocessor.problem_type == "multi_label_classification":
            return {
                "scores": [round(one, DIGITS) for one, is_given in zip(probability, answer, strict=True) if is_given]
            }
        return {"score": round(probability, DIGITS)}

    def _spoken(self, answer: Any) -> Any:
        """A prediction in the words of the data."""
        if self.preprocessor.problem_type == "regression":
            return answer
        if self.preprocessor.problem_type == "multi_label_classification":
            return [label for label, is_given in zip(self.preprocessor.labels, answer, strict=True) if is_given]
        return self.preprocessor.labels[answer]


def _is_empty(label: Any) -> bool:
    """Whether there is none; in a CSV file that is an empty text."""
    return label is None or (isinstance(label, str) and not label.strip())


def split_labels(value: Any, separator: str) -> list[str]:
    """The labels in a text, each once."""
    parts = (part.strip() for part in ("" if value is None else str(value)).split(separator))
    return list(dict.fromkeys(part for part in parts if part))


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


TEXT_CLASSIFICATION = Task(
    name="text-classification",
    also_called=(
        "classification",
        "sequence-classification",
        "sentiment",
        "sentiment-analysis",
        "nli",
        "regression",
        "topic",
    ),
    pipeline_tag="text-classification",
    auto_class=AutoModelForSequenceClassification,
    families=("trefoil_encoder", "trefoil_decoder"),
    roles=("text", "label"),
    optional_roles=("text_pair",),
    options=TextClassificationOptions,
    metrics=tuple(dict.fromkeys(name for names in METRICS.values() for name in names)),
    minimized=("mean_squared_error",),
    asked=("text", "text_pair"),
    measure=lambda references, _: label_measure(references),
    reader=TextClassificationReader,
    preprocessor=TextClassificationPreprocessor,
    evaluator=TextClassificationEvaluator,
)
