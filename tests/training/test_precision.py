import pytest

from trefoil.configuration.errors import UserError
from trefoil.recipes.schema import TrainingRecipe
from trefoil.training.precision import mixed_precision


@pytest.mark.parametrize(
    ("asked", "launched", "expected"),
    [
        (None, None, "no"),
        (None, "no", "no"),
        (None, "bf16", "bf16"),
        (None, "fp16", "fp16"),
        ("bf16", None, "bf16"),
        ("bf16", "no", "bf16"),
        ("bf16", "bf16", "bf16"),
        ("no", "no", "no"),
    ],
)
def test_the_recipe_or_else_the_launcher_says(monkeypatch, asked, launched, expected):
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    if launched is not None:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    assert mixed_precision(TrainingRecipe(mixed_precision=asked)) == expected


@pytest.mark.parametrize(
    ("asked", "launched", "message"),
    [
        (
            "no",
            "bf16",
            "training.mixed_precision='no', but accelerate launch was given --mixed_precision bf16; give both the same, or "
            "one of them",
        ),
        (
            "bf16",
            "fp16",
            "training.mixed_precision='bf16', but accelerate launch was given --mixed_precision fp16; give both the same, or "
            "one of them",
        ),
        (None, "fp8", "accelerate launch --mixed_precision fp8: a run's is one of no, bf16, fp16"),
    ],
)
def test_two_that_disagree_are_refused(monkeypatch, asked, launched, message):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    with pytest.raises(UserError) as error:
        mixed_precision(TrainingRecipe(mixed_precision=asked))
    assert str(error.value) == message
