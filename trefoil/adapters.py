"""What PEFT adapts where a configuration names no `target_modules`: of Trefoil, the same as of Llama.

PEFT looks this up by `model_type` in tables of its own and has no call that extends them. They are extended where PEFT
is imported, before or after Trefoil; importing Trefoil imports no PEFT.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

from .modeling.auto import AUTO_CLASSES

TABLES = "peft.utils.constants"
LIKE = "llama"  # whose projections have the names of ours, but whose norms do not
OTHER_NAMES = ("LNTUNING",)


def register_adapters() -> None:
    """Make `LoraConfig(task_type=…)` and its like know every Trefoil family."""
    if TABLES in sys.modules:
        extend(sys.modules[TABLES])
    elif not any(isinstance(finder, ExtendOnImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, ExtendOnImport())


def extend(tables: ModuleType) -> None:
    """Give every Trefoil family what Llama has in each table."""
    for name, table in vars(tables).items():
        if name.endswith("_MODULES_MAPPING") and not any(other in name for other in OTHER_NAMES) and LIKE in table:
            for config_class in AUTO_CLASSES:
                table.setdefault(config_class.model_type, table[LIKE])


class ExtendOnImport:
    """Finds the module of the tables once, as the other finders do, and extends it when it has run."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != TABLES:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_extend(module: ModuleType) -> None:
                run(module)
                extend(module)

            spec.loader.exec_module = run_and_extend  # type: ignore[method-assign]
        return spec
