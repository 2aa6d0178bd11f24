"""In which precision a run computes, where its recipe and `accelerate launch` both have a say."""

import os

from ..configuration.errors import UserError
from ..recipes.schema import TrainingRecipe

KNOWN = ("no", "bf16", "fp16")


def mixed_precision(recipe: TrainingRecipe) -> str:
    """The recipe's, or else the launcher's.

    Raises:
        UserError: They disagree, or the launcher's is one that recipes do not have.
    """
    asked, launched = recipe.mixed_precision, os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if launched not in KNOWN:
        raise UserError(f"accelerate launch --mixed_precision {launched}: a run's is one of {', '.join(KNOWN)}")
    # the launcher says no also where nobody asked it
    if asked is not None and launched not in ("no", asked):
        raise UserError(
            f"training.mixed_precision={asked!r}, but accelerate launch was given --mixed_precision {launched}; give both "
            "the same, or one of them"
        )
    return asked or launched
