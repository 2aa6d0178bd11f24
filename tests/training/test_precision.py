import platform

import pytest
import torch
from training_runs import losses, start, tiny_recipe

from trefoil.configuration.errors import UserError
from trefoil.recipes.schema import TrainingRecipe
from trefoil.training import precision
from trefoil.training.precision import accelerates, mixed_precision


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


def on_a_device(monkeypatch, machine="x86_64", cuda=None, avx512_bf16=False, amx=False, mkldnn=False):
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda is not None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: cuda)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(precision, "_mkldnn_has_bf16", lambda: mkldnn)


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ({}, "no"),
        ({"mkldnn": True}, "no"),  # there it computes without instructions of its own
        ({"avx512_bf16": True}, "bf16"),
        ({"machine": "AMD64", "amx": True}, "bf16"),
        ({"machine": "aarch64"}, "no"),
        ({"machine": "arm64", "mkldnn": True}, "bf16"),
        ({"cuda": True}, "bf16"),
        ({"cuda": False, "avx512_bf16": True}, "no"),
    ],
)
def test_auto_is_what_the_device_is_made_for_unless_the_launcher_says(monkeypatch, device, expected):
    on_a_device(monkeypatch, **device)
    assert mixed_precision(TrainingRecipe(mixed_precision="auto")) == expected
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert mixed_precision(TrainingRecipe(mixed_precision="auto")) == expected
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    assert mixed_precision(TrainingRecipe(mixed_precision="auto")) == "fp16"


def test_bf16_without_instructions_for_it_is_said_to_be_slow(monkeypatch, capsys):
    on_a_device(monkeypatch)
    assert mixed_precision(TrainingRecipe(mixed_precision="bf16")) == "bf16"
    assert capsys.readouterr().err == (
        "mixed precision bf16: a CPU without instructions for it is many times as slow as in float32; set auto\n"
    )
    on_a_device(monkeypatch, amx=True)
    mixed_precision(TrainingRecipe(mixed_precision="bf16"))
    assert not capsys.readouterr().err


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
        (
            "bf16",
            "fp8",
            "training.mixed_precision='bf16', but accelerate launch was given --mixed_precision fp8; give both the same, or "
            "one of them",
        ),
        (None, "fp4", "accelerate launch --mixed_precision fp4: a run's is one of no, bf16, fp16, fp8"),
    ],
)
def test_two_that_disagree_are_refused(monkeypatch, asked, launched, message):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    with pytest.raises(UserError) as error:
        mixed_precision(TrainingRecipe(mixed_precision=asked))
    assert str(error.value) == message


@pytest.fixture
def machine(monkeypatch):
    """Says whether torchao is there, and what GPU: its name and capability."""

    def is_such(torchao, name=None, capability=(0, 0)):
        monkeypatch.setattr(precision.importlib.util, "find_spec", lambda module: torchao or None)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: name is not None)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)

    return is_such


@pytest.mark.parametrize(("asked", "launched"), [(None, "fp8"), ("fp8", "no"), ("fp8", "fp8")])
def test_fp8_is_taken_where_it_can_be(monkeypatch, machine, asked, launched):
    machine(True, "H100", (9, 0))
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    assert mixed_precision(TrainingRecipe(mixed_precision=asked)) == "fp8"


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ((False, "H100", (9, 0)), "mixed precision fp8 needs torchao: pip install torchao"),
        ((True, "A100", (8, 0)), "mixed precision fp8: A100 cannot, Ada, Hopper and later can; use bf16"),
        ((True,), "mixed precision fp8: a CPU cannot, Ada, Hopper and later can; use bf16"),
    ],
)
def test_fp8_is_refused_where_it_cannot(monkeypatch, machine, there, message):
    machine(*there)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    with pytest.raises(UserError) as error:
        mixed_precision(TrainingRecipe())
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("chosen", "told", "is_allowed"),
    [("tf32", "no", True), ("bf16", "bf16", True), ("no", "no", False), (None, None, False)],
)
def test_tf32_is_torchs_to_do(machine, chosen, told, is_allowed):
    matmul = torch.backends.cuda.matmul
    machine(True, "A100", (8, 0))
    before = matmul.allow_tf32
    try:
        assert mixed_precision(TrainingRecipe(mixed_precision=chosen)) == (chosen or "no")
        assert (accelerates(chosen), matmul.allow_tf32) == (told, is_allowed)
    finally:
        matmul.allow_tf32 = before


@pytest.mark.parametrize(
    ("there", "device"), [((True, "V100", (7, 0)), "V100"), ((True,), "a CPU")], ids=["Volta", "CPU"]
)
def test_tf32_is_refused_where_it_cannot_be(machine, there, device):
    machine(*there)
    with pytest.raises(UserError) as error:
        mixed_precision(TrainingRecipe(mixed_precision="tf32"))
    assert str(error.value) == f"mixed precision tf32: {device} cannot, Ampere and later can; use no"


# trains, and goes on, where a CPU imitates what a GPU computes in 8 bits
IMITATED = """
import functools, sys
from torchao import float8
from trefoil.cli import main
from trefoil.training import precision
float8.Float8LinearConfig = functools.partial(float8.Float8LinearConfig, emulate=True)
precision._require_fp8 = lambda: None
main(["train", sys.argv[1]])
sys.exit(main(["train", sys.argv[1], "training.max_steps=9"]))
"""


@pytest.mark.slow
def test_a_run_in_fp8_learns_and_goes_on(tmp_path):
    pytest.importorskip("torchao.float8")
    training = {"mixed_precision": "fp8", "max_steps": 6, "save_every": 3}
    (tmp_path / "recipe.yaml").write_text(tiny_recipe(tmp_path / "run", training=training).to_yaml())
    (tmp_path / "script.py").write_text(IMITATED)
    process = start(tmp_path / "script.py", tmp_path / "recipe.yaml")  # accelerate has one precision a process
    assert process.returncode == 0, process.stderr
    found = losses(tmp_path / "run")
    assert list(found) == list(range(1, 10))
    assert found[9] < found[1]
    assert "going on from step 6" in process.stderr
