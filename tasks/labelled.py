"""Tasks whose data has labels with names: a column of texts, or of numbers that something else gives names to."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, ClassVar

import datasets
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from ..configuration.errors import UserError
from ..recipes.schema import Recipe
from .preprocessor import Preprocessor
from .reader import Reader, shortened
from .task import Task


class LabelledReader(Reader):
    """Numbers are named by the data's own `ClassLabel`, or else by the option `names`."""

    label_role: ClassVar[str]  # of the column with a label, or a list of them

    def __init__(self, task: Task, recipe: Recipe) -> None:
        super().__init__(task, recipe)
        self.names = {str(number): name for number, name in self.options.names.items()}
        for name, count in Counter(self.names.values()).items():
            if count > 1:
                numbers = " and ".join(number for number, other in self.names.items() if other == name)
                raise UserError(f"options.names: {name!r} names {numbers}; give each label a name of its own")

    def check_names(self, train: datasets.Dataset, labels: Iterable[Any]) -> None:
        """
        Args:
            train: The raw training split.
            labels: All that it has.

        Raises:
            UserError: A name does nothing, or a number has none while others do.
        """
        if self.names and (own := self.own_names(train)) is not None:
            names = shortened(", ".join(own), 200)
            raise UserError(f"options.names does nothing: the data names its labels itself: {names}")
        known = {str(label) for label in labels}
        if idle := sorted(self.names.keys() - known):
            there = shortened(", ".join(sorted(known)), 200)
            raise UserError(f"options.names has {idle[0]!r}, which is no label of the training data; there are {there}")
        if self.names and (nameless := sorted(label for label in known - self.names.keys() if label.isdecimal())):
            raise UserError(
                f"options.names has no name for {shortened(', '.join(nameless), 200)}, which the training data has too; name "
                "each number, or none (on the command line options.names={})"
            )

    def name_of(self, label: Any) -> Any:
        """A label by the name that the recipe gives it; one that has none as it is."""
        return self.names.get(str(label), label)

    def label_counts(self, examples: datasets.Dataset) -> Counter[str]:
        """How often rows have each label, by its name; of a list each counts."""
        values = examples[str(self.column(self.label_role))]
        each = (one for value in values for one in (value if isinstance(value, list) else [value]))
        return Counter(str(self.name_of(one)) for one in each if one is not None and str(one).strip())

    def own_names(self, examples: datasets.Dataset) -> list[str] | None:
        """The data's own names, where the column with the labels has numbers for them."""
        feature = examples.features[str(self.column(self.label_role))]
        item = getattr(feature, "feature", feature)
        return item.names if isinstance(item, datasets.ClassLabel) else None

    def prepared(self, examples: datasets.Dataset, where: str) -> datasets.Dataset:
        names = self.own_names(examples)
        if names is None:
            return examples
        column = str(self.column(self.label_role))
        is_list = not isinstance(examples.features[column], datasets.ClassLabel)
        text = datasets.Value("string")
        return examples.map(
            lambda values: {column: [_named(value, names) for value in values]},
            batched=True,
            input_columns=[column],
            features=datasets.Features({**examples.features, column: datasets.List(text) if is_list else text}),
            desc=f"naming the labels of {where}",
        )

    def head_is_new(self, config: PreTrainedConfig, learned: dict[str, Any]) -> bool:
        return "id2label" in learned and set(config.id2label.values()) != set(learned["id2label"].values())


class LabelledPreprocessor(Preprocessor):
    reader: LabelledReader

    def __init__(self, reader: LabelledReader, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
        super().__init__(reader, tokenizer, config)
        self.labels: list[str] = [config.id2label[number] for number in sorted(config.id2label)]

    @classmethod
    def model_fields(
        cls, reader: Reader, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig, learned: dict[str, Any]
    ) -> dict[str, Any]:
        """A model that has the labels already keeps its order of them."""
        fields = super().model_fields(reader, tokenizer, config, learned)
        if reader.head_is_new(config, learned):
            return fields
        return {name: value for name, value in fields.items() if name not in ("id2label", "label2id")}

    def _identity(self, is_scored: bool) -> list[Any]:
        return [*super()._identity(is_scored), self.labels]


def label_fields(labels: list[str]) -> dict[str, Any]:
    """What a model's configuration says of labels, which are in the order of the model's outputs."""
    return {"id2label": dict(enumerate(labels)), "label2id": {name: number for number, name in enumerate(labels)}}


def _named(label: Any, names: list[str]) -> Any:
    """A label, or a list of them, as text: by name, if its number has one."""
    if isinstance(label, list):
        return [_named(item, names) for item in label]
    return None if label is None else names[label] if 0 <= label < len(names) else str(label)
