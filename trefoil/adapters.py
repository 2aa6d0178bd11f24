"""What PEFT adapts where a configuration names no `target_modules`: of Trefoil, the same as of Llama."""

import importlib.util

from .modeling.auto import AUTO_CLASSES

LIKE = "llama"  # whose projections have the names of ours, but whose norms do not
OTHER_NAMES = ("LNTUNING",)


def register_adapters() -> None:
    """Make `LoraConfig(task_type=…)` and its like know every Trefoil family, where PEFT is installed.

    PEFT looks this up by `model_type` in tables of its own and has no call that extends them.
    """
    if importlib.util.find_spec("peft") is None:
        return
    try:
        from peft.utils import constants
    except Exception:  # an installation that is broken is no obstacle to those who do not use it
        return
    for name, table in vars(constants).items():
        if name.endswith("_MODULES_MAPPING") and not any(other in name for other in OTHER_NAMES) and LIKE in table:
            for config_class in AUTO_CLASSES:
                table.setdefault(config_class.model_type, table[LIKE])
