"""`trefoil doctor`: what it finds, and what it says of machines that lack something."""

import json
import subprocess
import sys
from importlib import metadata

import pytest
import torch
import transformers

from trefoil import doctor
from trefoil.cli import main
from trefoil.training.precision import fastest


@pytest.fixture(scope="module")
def found():
    return doctor.examine()


def test_what_it_finds(found):
    assert found["versions"]["torch"] == metadata.version("torch")
    assert found["versions"]["transformers"] == transformers.__version__
    assert found["processor"]["threads"] == torch.get_num_threads()
    assert 0 < found["memory"]["available"] <= found["memory"]["total"]
    assert len(found["gpus"]) == torch.cuda.device_count()
    assert found["extras"]["base"] == {"installed": found["extras"]["base"]["installed"], "missing": []}
    assert any(line.startswith("torch ") for line in found["extras"]["base"]["installed"])
    assert {"train", "demo", "excel"} <= found["extras"].keys()
    assert not found["extras"].keys() & {"test", "lint", "docs"}
    assert found["used"]["mixed precision"] == fastest()


def test_both_ways_say_the_same(found, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "examine", lambda: found)
    assert main(["doctor"]) == doctor.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 :] == doctor.lines_of(found)
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found


def test_warnings_come_with_a_remedy(found, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    poor = found | {
        "gpus": [],
        "memory": {"total": 4.0, "available": 1.0},
        "disk": {"cache": "somewhere", "free": 0.5},
        "processor": found["processor"] | {"cores": 8, "threads": 1},
        "extras": {"base": {"installed": [], "missing": ["transformers>=5.17"]}},
        "used": {"mixed precision": "no"},
    }
    told = "\n".join(doctor._warnings(poor))
    for remedy in (
        "torch uses 1 of 8 cores: OMP_NUM_THREADS=1; unset it",
        "training.mixed_precision=auto",
        "batches.tokens_per_device=1024",
        "set HF_HOME to a place with more room than somewhere",
        "unset it, unless that is meant",
        "there is no transformers>=5.17: pip install 'transformers>=5.17'",
    ):
        assert remedy in told
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert "torch uses 1 of 8 cores: set OMP_NUM_THREADS=8" in doctor._warnings(poor)
    rich = poor | {"memory": {"total": 64.0, "available": 32.0}, "disk": {"cache": "somewhere", "free": 50.0}}
    assert not any("memory is free" in line or "disk" in line for line in doctor._warnings(rich))


def test_a_gpu_that_torch_cannot_use(found, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: "nvidia-smi")
    assert any("this torch cannot use it" in line for line in doctor._warnings(found | {"gpus": []}))


def test_what_is_not_of_the_right_version(monkeypatch):
    versions = {"torch": "1.0", "excel": None}
    monkeypatch.setattr(doctor, "_version", versions.get)
    monkeypatch.setattr(
        "importlib.metadata.requires",
        lambda name: ["torch>=2.11", 'openpyxl>=3.1; extra == "excel"', 'mypy; extra == "lint"'],
    )
    assert doctor._extras() == {
        "base": {"installed": [], "missing": ["torch>=2.11"]},
        "excel": {"installed": [], "missing": ["openpyxl>=3.1"]},
    }


@pytest.mark.slow
def test_as_a_module():
    process = subprocess.run([sys.executable, "-m", "trefoil.doctor"], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("versions    trefoil ")
    assert process.stderr == ""
