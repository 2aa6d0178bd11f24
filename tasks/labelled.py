"""Tasks whose data has labels with names: a column of texts, or of numbers that something else gives names to."""

from typing import Any, ClassVar

import datasets
from transformers import PreTrainedConfig

from .base import Task


class LabelledTask(Task):
    """Numbers are named by the data's own `ClassLabel`, or else by the option `names`."""

    label_role: ClassVar[str]  # of the column with a label, or a list of them
    labels: list[str] | None = None  # names, in the order of the model's outputs
    class_label: datasets.ClassLabel | None = None  # where the data has its own names

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.names = {str(number): name for number, name in self.options.names.items()}

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
