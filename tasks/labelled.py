"""Tasks whose data has labels with names: a column of texts, or of numbers that something else gives names to."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, ClassVar

import datasets
from transformers import PreTrainedConfig

from ..configuration.errors import UserError
from .base import Task, shortened


class LabelledTask(Task):
    """Numbers are named by the data's own `ClassLabel`, or else by the option `names`."""

    label_role: ClassVar[str]  # of the column with a label, or a list of them
    labels: list[str] | None = None  # names, in the order of the model's outputs
    class_label: datasets.ClassLabel | None = None  # where the data has its own names

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.names = {str(number): name for number, name in self.options.names.items()}
        for name, count in Counter(self.names.values()).items():
            if count > 1:
                numbers = " and ".join(number for number, other in self.names.items() if other == name)
                raise UserError(f"options.names: {name!r} names {numbers}; give each label a name of its own")

    def check_names(self, labels: Iterable[Any]) -> None:
        """
        Args:
            labels: All that the training data has.

        Raises:
            UserError: A name does nothing.
        """
        if self.names and self.class_label is not None:
            own = shortened(", ".join(self.class_label.names), 200)
            raise UserError(f"options.names does nothing: the data names its labels itself: {own}")
        known = {str(label) for label in labels}
        if idle := sorted(self.names.keys() - known):
            there = shortened(", ".join(sorted(known)), 200)
            raise UserError(f"options.names has {idle[0]!r}, which is no label of the training data; there are {there}")

    def take_names(self, examples: datasets.Dataset) -> None:
        """Learn the data's own names, where it has them."""
        feature = examples.features[str(self.column(self.label_role))]
        item = getattr(feature, "feature", feature)
        if isinstance(item, datasets.ClassLabel):
            self.class_label = item

    def name_of(self, label: Any) -> Any:
        """A label by its name; one that has none as it is."""
        if self.class_label is not None and isinstance(label, int):
            return self.class_label.int2str(label) if 0 <= label < self.class_label.num_classes else label
        return self.names.get(str(label), label)

    def head_is_new(self, config: PreTrainedConfig) -> bool:
        return self.labels is not None and set(config.id2label.values()) != set(self.labels)

    def encode(self, examples: datasets.Dataset, where: str) -> datasets.Dataset:
        self.take_names(examples)
        return super().encode(examples, where)

    def scorable(self, examples: datasets.Dataset, where: str) -> datasets.Dataset:
        self.take_names(examples)
        return super().scorable(examples, where)
