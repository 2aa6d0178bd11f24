import pytest

from trefoil import launch
from trefoil.configuration.errors import UserError


@pytest.mark.parametrize(
    "words", [["--num_processes", "3"], ["--num-processes", "3"], ["--num_processes=3"], ["--cpu", "--num-processes=3"]]
)
def test_the_number_is_read_off_the_launcher(words):
    assert launch.processes_asked_for(["python", "accelerate", "launch", *words, "-m", "trefoil"]) == 3


@pytest.fixture
def launched(monkeypatch):
    """The environment that `accelerate launch --cpu` leaves its one process in."""
    for name in launch.WORLD_SIZES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    replaced = []
    monkeypatch.setattr(launch.os, "execv", lambda program, words: replaced.append(words))
    return replaced


def test_the_missing_processes_are_started(launched, monkeypatch):
    monkeypatch.setattr(launch, "processes_asked_for", lambda command: 2)
    launch.start_missing_processes(["train", "recipe.yaml", "seed=1"])
    assert launched[0][-7:] == ["--nproc-per-node", "2", "-m", "trefoil", "train", "recipe.yaml", "seed=1"]


def test_a_number_that_cannot_be_found_is_an_error(launched, monkeypatch):
    monkeypatch.setattr(launch, "processes_asked_for", lambda command: None)
    with pytest.raises(UserError, match="torchrun --standalone --nproc-per-node N -m trefoil train x"):
        launch.start_missing_processes(["train", "x"])


@pytest.mark.parametrize("missing", ["ACCELERATE_USE_CPU", "MASTER_ADDR"])
def test_nothing_happens_without_such_a_launch(launched, monkeypatch, missing):
    monkeypatch.delenv(missing)
    launch.start_missing_processes(["train", "x"])
    assert launched == []


def test_nothing_happens_where_the_processes_are_there(launched, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    launch.start_missing_processes(["train", "x"])
    assert launched == []
