"""What PEFT adapts where a configuration names no `target_modules`: of Trefoil, the same as of Llama.

`LoraConfig(task_type=…)` and its like know every Trefoil family where this module is imported. PEFT looks them up by
`model_type` in tables of its own and has no call that extends them.
"""

from .configuration.auto import FAMILIES

LIKE = "llama"  # whose projections have the names of ours, but whose norms do not
OTHER_NAMES = ("LNTUNING",)


def _register() -> None:
    from peft.utils import constants

    for name, table in vars(constants).items():
        if name.endswith("_MODULES_MAPPING") and not any(other in name for other in OTHER_NAMES) and LIKE in table:
            for family in FAMILIES:
                table.setdefault(family.model_type, table[LIKE])


_register()
