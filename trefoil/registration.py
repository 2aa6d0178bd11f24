"""What transformers and PEFT are told of this package, as soon as the module that wants to know is imported."""

import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# the module that has what is added to -> the one of ours that adds to it when it is imported
REGISTRATIONS = {
    "transformers.models.auto.configuration_auto": "configuration.auto",
    "transformers.models.auto.modeling_auto": "modeling.auto",
    "transformers.pipelines": "pipelines.registration",
    "peft.utils.constants": "adapters",
}


def register() -> None:
    """Register with the modules that are there already, and with others when they come."""
    finder = ThenImport({name: f"{__package__}.{ours}" for name, ours in REGISTRATIONS.items()})
    sys.meta_path.insert(0, finder)
    for name in REGISTRATIONS:
        if name in sys.modules:
            finder.has_come(name)


class ThenImport(importlib.abc.MetaPathFinder):
    """Once a module of some name has been imported, wherever it is found, imports another one of this package; where it is
    this package that imports the first, when that import has ended.

    Args:
        waiting: The names of the others, by those of the first.
    """

    def __init__(self, waiting: dict[str, str]) -> None:
        self.waiting = waiting
        self.looked_for: set[str] = set()
        self.depth = 0  # of this package's modules that are being imported
        self.due: list[str] = []

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        is_ours = name.startswith(f"{__package__}.")
        if name in self.looked_for or not (is_ours or name in self.waiting):
            return None
        self.looked_for.add(name)
        try:
            spec = importlib.util.find_spec(name)  # by all other finders
        finally:
            self.looked_for.remove(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self, is_ours)  # type: ignore[assignment]
        return spec

    def has_come(self, name: str) -> None:
        self.due.append(self.waiting.pop(name))
        self.import_due()

    def import_due(self) -> None:
        while self.due and self.depth == 0:
            importlib.import_module(self.due.pop(0))


class _Loader:
    """A module's loader, which also tells of what it has loaded."""

    def __init__(self, loader: Any, finder: ThenImport, is_ours: bool) -> None:
        self.loader, self.finder, self.is_ours = loader, finder, is_ours

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.finder.depth += self.is_ours
        try:
            self.loader.exec_module(module)
        finally:
            self.finder.depth -= self.is_ours
        if self.is_ours:
            self.finder.import_due()
        else:
            self.finder.has_come(module.__name__)
