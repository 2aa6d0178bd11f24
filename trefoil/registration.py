"""What transformers and PEFT are told of this package, as soon as the module that wants to know is imported."""

import importlib
import importlib.abc
import importlib.util
import sys
import threading
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# the module that has what is added to, or is added -> the one of ours that adds to it when it is imported
REGISTRATIONS = {
    **{
        f"{__package__}.configuration.{family}": "configuration.auto"
        for family in ("decoder", "encoder", "encoder_decoder", "recurrent")
    },
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
        self.due: list[str] = []
        self.of_thread = _OfThread()
        # modules of this package that are being imported, by all threads: one that waited for another's would be waited for
        self.being_imported: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        is_ours = name.startswith(f"{__package__}.")
        looked_for = self.of_thread.looked_for
        if name in looked_for or not (is_ours or name in self.waiting):
            return None
        looked_for.add(name)
        try:
            spec = importlib.util.find_spec(name)  # by all other finders
        finally:
            looked_for.remove(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self, is_ours)  # type: ignore[assignment]
        return spec

    def has_come(self, name: str) -> None:
        if name in self.waiting:
            self.due.append(self.waiting.pop(name))
        self.import_due()

    def import_due(self) -> None:
        while self.due and not self.being_imported:
            name = self.due[0]
            importlib.import_module(name)
            if name in self.due:  # else it was what this one had imported first
                self.due.remove(name)


class _OfThread(threading.local):
    """What one thread is at."""

    def __init__(self) -> None:
        self.looked_for: set[str] = set()


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
        if self.is_ours:
            self.finder.being_imported.add(module.__name__)
        try:
            self.loader.exec_module(module)
        finally:
            self.finder.being_imported.discard(module.__name__)
        self.finder.has_come(module.__name__)
