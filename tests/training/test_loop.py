"""That nothing makes a run lose its place: killed, stopped, diverged or finished, it goes on to the end."""

import inspect
import itertools
import json
import math
import multiprocessing
import random
import re
import shutil
import signal
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter
from training_runs import (
    TALKATIVE,
    KilledError,
    after_step,
    ended,
    losses,
    merged,
    set_writable,
    start,
    tiny_recipe,
    train_and_die,
)

from benchmarks import reliability
from trefoil.configuration.errors import UserError
from trefoil.data import whole_files
from trefoil.tasks import TASKS
from trefoil.tasks.translation import TranslationEvaluator
from trefoil.training import checkpoint_writer, run, training_data
from trefoil.training.checkpoints import checkpoint_folders, latest_checkpoint, load_state
from trefoil.training.engine import Engine
from trefoil.training.loop import TrainingLoop
from trefoil.training.manifest import write_manifest
from trefoil.training.run import train
from trefoil.training.run_folder import ModelFolder

# trains, and one of its processes, some seconds after a step (0: the first that it takes), sends itself a signal
SIGNALLED = """
import os, sys, threading
from trefoil.cli import main
from trefoil.training.loop import TrainingLoop
number, rank, when, seconds = int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
options = sys.argv[6:]
step = TrainingLoop.step
def step_and_signal(self, micro_batches):
    values = step(self, micro_batches)
    self.first = getattr(self, "first", self.position.step)
    if self.position.step == (when or self.first) and os.environ.get("RANK", "0") == rank:
        if seconds:
            threading.Timer(seconds, os.kill, (os.getpid(), number)).start()
        else:
            os.kill(os.getpid(), number)
    return values
TrainingLoop.step = step_and_signal
sys.exit(main(["train", *options, sys.argv[1]]))
"""


def train_and_signal(recipe, number, step, processes=1, rank=0, seconds=0.0, options=()):
    """Train in processes of their own, one of which gets a signal."""
    folder = Path(recipe.output_dir).parent
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    (folder / "script.py").write_text(SIGNALLED)
    words = (int(number), rank, step, seconds, *options)
    return start(folder / "script.py", folder / "recipe.yaml", *words, processes=processes)


def test_killed_at_any_step_it_goes_on_to_the_same_losses(finished_run, tmp_path):
    step, recipe = random.randint(1, 19), tiny_recipe(tmp_path / "run")
    process = train_and_signal(recipe, signal.SIGKILL, step)
    assert process.returncode == -signal.SIGKILL, process.stderr
    train(recipe)
    assert losses(tmp_path / "run") == losses(finished_run), f"killed at step {step}"


@pytest.mark.slow
def test_killed_with_its_workers_at_work_it_can_go_on_at_once(finished_run, tmp_path):
    """They see some seconds later that it is gone, and hold nothing meanwhile."""
    recipe = tiny_recipe(tmp_path / "run", batches={"workers": 1})
    process = train_and_signal(recipe, signal.SIGKILL, 8)
    assert process.returncode == -signal.SIGKILL, process.stderr
    train(tiny_recipe(tmp_path / "run"))
    assert losses(tmp_path / "run") == losses(finished_run)


# the same in a group of its own, all of which gets the signal, as a launcher or a terminal sends it
SIGNALLED_IN_A_GROUP = SIGNALLED.replace("os.kill(os.getpid(), number)", "os.killpg(0, number)").replace(
    "step = TrainingLoop.step", "os.setpgid(0, 0)\nstep = TrainingLoop.step"
)


@pytest.mark.slow
@pytest.mark.parametrize("step", [3, 7, 8, 9])
def test_a_signal_to_its_whole_group_does_not_take_its_workers(finished_run, tmp_path, monkeypatch, step):
    """Epochs, at which workers begin anew, have fewer steps than are tried."""
    monkeypatch.setitem(globals(), "SIGNALLED", SIGNALLED_IN_A_GROUP)
    recipe = tiny_recipe(tmp_path / "run", batches={"workers": 2})
    process = train_and_signal(recipe, signal.SIGTERM, step)
    assert process.returncode == 130, process.stderr
    assert load_state(latest_checkpoint(tmp_path / "run" / "checkpoints"))["step"] == step + 1
    train(tiny_recipe(tmp_path / "run"))
    assert losses(tmp_path / "run") == losses(finished_run)


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_run_in_a_line_and_it_goes_on(finished_run, tmp_path, monkeypatch):
    def step_and_kill(self, micro_batches, step=TrainingLoop.step):
        values = step(self, micro_batches)
        if self.position.step == 13:  # of an epoch of which there is more than is made ahead
            self.writer.finish()
            (worker,) = multiprocessing.active_children()
            worker.kill()
        return values

    recipe = tiny_recipe(tmp_path / "run", batches={"workers": 1})
    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "step", step_and_kill)
        with pytest.raises(UserError) as error:
            train(recipe)
    assert re.fullmatch(
        r"batches.workers=1: DataLoader worker .*, often for want of memory; the same command goes on from the last checkpoint",
        str(error.value),
    )
    train(tiny_recipe(tmp_path / "run"))
    assert losses(tmp_path / "run") == losses(finished_run)


def test_a_worker_that_goes_while_it_hands_a_batch_over_is_told_too(tmp_path, monkeypatch):
    def refuse(self, *timeout):
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr(training_data, "PATIENCE", 0.0)
    monkeypatch.setattr(_MultiProcessingDataLoaderIter, "_try_get_data", refuse)
    with pytest.raises(
        UserError, match=r"batches.workers=1: DataLoader worker \(pid not known\) is gone \(ConnectionReset"
    ):
        train(tiny_recipe(tmp_path / "run", batches={"workers": 1}))


@pytest.mark.parametrize(
    ("number", "options", "code"),
    [
        (signal.SIGTERM, [], 130),
        pytest.param(signal.SIGUSR1, ["--stopped-code", 99], 99, marks=pytest.mark.slow),
    ],
    ids=["SIGTERM", "SIGUSR1"],
)
def test_asked_to_stop_it_leaves_a_checkpoint_and_goes_on_to_the_same_losses(
    finished_run, tmp_path, number, options, code
):
    recipe = tiny_recipe(tmp_path / "run")
    process = train_and_signal(recipe, number, 8, options=options)
    assert process.returncode == code, process.stderr
    assert process.stderr.splitlines()[-1] == "stopped; the same command goes on from the last checkpoint"
    assert load_state(checkpoint_folders(tmp_path / "run" / "checkpoints")[-1])["step"] == 9
    train(recipe)
    assert losses(tmp_path / "run") == losses(finished_run)


def test_a_checkpoint_whose_model_is_of_no_known_kind_is_told_in_one_line(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    checkpoint = checkpoint_folders(tmp_path / "run" / "checkpoints")[-1]
    (checkpoint / "config.json").write_text("{}")
    write_manifest(checkpoint)
    with pytest.raises(UserError, match=f"{checkpoint.name}: the model does not load: .*; delete this folder") as error:
        train(tiny_recipe(tmp_path / "run"))
    assert "\n" not in str(error.value)


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) * 2 // 3] ^= 4
    file.write_bytes(content)


def empty(file):
    file.write_bytes(b"")


DAMAGES = {"cut": cut, "a bit": flip, "empty": empty, "missing": Path.unlink}
TRIED = [("a bit", "optimizer.safetensors")]


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        pytest.param(damage, name, marks=[] if (damage, name) in TRIED else pytest.mark.slow)
        for damage in DAMAGES
        for name in ("model.safetensors", "optimizer.safetensors", "state.json", "tokenizer.json", "manifest.json")
        if (damage, name) != ("missing", "manifest.json")  # then it is as from before there was one
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_gone_on_from(finished_run, tmp_path, capsys, damage, name):
    shutil.copytree(finished_run, tmp_path / "run")
    newest = checkpoint_folders(tmp_path / "run" / "checkpoints")[-1]
    DAMAGES[damage](newest / name)
    results = train(tiny_recipe(tmp_path / "run"))
    told = [line for line in capsys.readouterr().err.splitlines() if "going on from" in line]
    named = ".*" if (damage, name) == ("a bit", "manifest.json") else name
    assert re.match(rf"{newest}: {named} is (damaged \(.*\)|missing); going on from the one before it", told[0])
    assert told[1] == f"going on from step 18 ({newest.with_name('step-00000018')})"
    assert losses(tmp_path / "run") == losses(finished_run)
    assert results["test"] == json.loads((finished_run / "best" / "results.json").read_text())["test"]


@pytest.fixture(scope="module")
def talkative_losses(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    train(tiny_recipe(folder / "run", **TALKATIVE))
    return losses(folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after", "rank"), [(2, 2, 1), (2, 1, 0), (1, 2, 0)])
def test_killed_it_goes_on_in_as_many_or_other_processes(talkative_losses, tmp_path, before, after, rank):
    recipe = tiny_recipe(tmp_path / "run", **TALKATIVE)
    process = train_and_signal(recipe, signal.SIGKILL, 14, before, rank)
    assert process.returncode != 0
    # the second may have been on its way to the disk
    steps = [load_state(path)["step"] for path in checkpoint_folders(tmp_path / "run" / "checkpoints")]
    assert steps in ([6], [6, 12]), process.stderr
    process = train_and_signal(recipe, signal.SIGKILL, 1000, after)
    assert process.returncode == 0, process.stderr
    found = losses(tmp_path / "run")
    assert list(found) == list(range(1, 21))
    assert found == pytest.approx(talkative_losses, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_again_and_again_while_saving(talkative_losses, tmp_path, processes):
    recipe = tiny_recipe(tmp_path / "run", **TALKATIVE, training={"save_every": 1, "evaluate_every": 2})
    seconds = [random.uniform(0.001, 0.5) for _ in range(3)]
    for delay in seconds:
        process = train_and_signal(recipe, signal.SIGKILL, 0, processes, random.randrange(processes), delay)
        assert process.returncode not in (0, 2), process.stderr
        latest_checkpoint(tmp_path / "run" / "checkpoints")
    train(recipe)
    found = losses(tmp_path / "run")
    assert list(found) == list(range(1, 21)), seconds
    assert found == pytest.approx(talkative_losses, abs=1e-4), seconds
    assert not list((tmp_path / "run").glob("**/.*trefoil-[nod]*")), seconds


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_killed_at_twenty_instants_it_comes_to_the_same_for_every_task(tmp_path, task):
    *cells, differences = reliability.interrupted(task, tmp_path, 20, signal.SIGKILL)
    assert (cells[:2], differences) == ([task, 20], "none")


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 6, 7, 10, 20], ids="step-{}".format)
def test_killed_after_a_step(finished_run, tmp_path, monkeypatch, step):
    train_and_die(monkeypatch, tiny_recipe(tmp_path / "run"), after_step(step))
    train(tiny_recipe(tmp_path / "run"))
    assert losses(tmp_path / "run") == losses(finished_run)


class InPlace(threading.Thread):
    start = threading.Thread.run

    def join(self, timeout=None):
        pass


@pytest.mark.slow
@pytest.mark.parametrize(
    "file",
    ["optimizer.safetensors", "model.safetensors", "state.json"],
)
def test_killed_while_writing_a_checkpoint(finished_run, tmp_path, monkeypatch, file):
    def die_within(write, path_of):
        def write_half(*arguments, **options):
            result = write(*arguments, **options)
            path = path_of(*arguments)
            if path.parent.name == ".step-00000012.trefoil-new" and path.name == file and path.is_file():
                path.write_bytes(path.read_bytes()[:100])
                raise KilledError
            return result

        return write_half

    train_and_die(
        monkeypatch,
        tiny_recipe(tmp_path / "run"),
        (checkpoint_writer, "threading", SimpleNamespace(Thread=InPlace)),  # the process dies, not a thread of it
        (Engine, "save", die_within(Engine.save, lambda _, folder, *__: folder / file)),
        (checkpoint_writer, "save_file", die_within(checkpoint_writer.save_file, lambda _, path: path)),
        (Path, "write_text", die_within(Path.write_text, lambda path, _: path)),
    )
    assert (tmp_path / "run" / "checkpoints" / ".step-00000012.trefoil-new").is_dir()
    train(tiny_recipe(tmp_path / "run"))
    assert losses(tmp_path / "run") == losses(finished_run)
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))


@pytest.mark.slow
def test_killed_while_it_puts_the_best_model_in_place(tmp_path, monkeypatch):
    """The old best is moved away, the new one is not there yet."""
    changes = {"training": {"evaluate_every": 5, "save_every": 4}}
    train(tiny_recipe(tmp_path / "whole", **changes))
    rename, renamed = Path.rename, []

    def rename_or_die(path, target):
        if path.name == ".best.trefoil-new":
            renamed.append(path)
            if len(renamed) == 2:
                raise KilledError
        return rename(path, target)

    train_and_die(
        monkeypatch,
        tiny_recipe(tmp_path / "run", **changes),
        (TrainingLoop, "_evaluate", scored_by_step(TrainingLoop._evaluate)),
        (whole_files, "_exchange", lambda one, other: False),
        (Path, "rename", rename_or_die),
    )
    assert not (tmp_path / "run" / "best").exists()
    train(tiny_recipe(tmp_path / "run", **changes))
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert (tmp_path / "run" / "best" / "results.json").exists()
    assert not list((tmp_path / "run").glob(".best*"))


def scored_by_step(evaluate_model):
    """Later models are better."""

    def evaluate_later_as_better(self):
        score = {"chrf": float(self.position.step)}
        real, self.evaluator.evaluate = self.evaluator.evaluate, lambda *_, **__: score
        evaluate_model(self)
        self.evaluator.evaluate = real

    return evaluate_later_as_better


def test_a_folder_that_is_deleted_under_it_ends_it_in_a_line(tmp_path, monkeypatch):
    def step_and_delete(self, micro_batches, step=TrainingLoop.step):
        values = step(self, micro_batches)
        if self.position.step == 8:
            self.writer.finish()
            shutil.rmtree(tmp_path / "run")
        return values

    monkeypatch.setattr(TrainingLoop, "step", step_and_delete)
    with pytest.raises(UserError) as error:
        train(tiny_recipe(tmp_path / "run"))
    assert re.fullmatch(
        rf"{tmp_path / 'run' / 'log.jsonl'}: cannot be written \(No such file or directory; \S+ GB are free there\); its folder "
        "was deleted or moved meanwhile",
        str(error.value),
    )
    assert not (tmp_path / "run").exists()


# trains, and from a step on (0: the start) no file can have more than some bytes, as where the disk is full
FULL = """
import resource, signal, sys
from trefoil.cli import main
from trefoil.training.loop import TrainingLoop
recipe, last, size = sys.argv[1], *map(int, sys.argv[2:])
def fill():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
step = TrainingLoop.step
def step_and_fill(self, micro_batches):
    values = step(self, micro_batches)
    if self.position.step == last:
        self.writer.finish()
        fill()
    return values
TrainingLoop.step = step_and_fill
if not last:
    fill()
sys.exit(main(["train", recipe]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "step", "size", "kept"),
    [
        ("checkpoints/step-00000012", 8, 30_000, "checkpoints before it are kept"),
        ("tokenizer", 0, 5_000, "what was there before is kept"),
        ("log.jsonl", 15, 3_500, "checkpoints are kept, and the same c"),
        ("best", 19, 30_000, "what was there before is kept"),
    ],
)
def test_what_finds_no_room_is_one_line_and_with_room_it_goes_on(finished_run, tmp_path, place, step, size, kept):
    recipe = tiny_recipe(tmp_path / "run")
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    (tmp_path / "script.py").write_text(FULL)
    process = start(tmp_path / "script.py", tmp_path / "recipe.yaml", step, size)
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr
    line = process.stderr.splitlines()[-1]
    assert line.startswith(f"error: {tmp_path / 'run' / place}: cannot be written (")
    assert f"; {kept}" in line
    assert "GB are free there" in line
    train(recipe)
    assert losses(tmp_path / "run") == losses(finished_run)
    assert not list((tmp_path / "run").glob("**/.*trefoil-[nod]*"))


# trains, and from a step on (0: the start) its folder is read-only
READ_ONLY = """
import sys
from pathlib import Path
from tests.training_runs import bind_to_permissions, set_writable
from trefoil.cli import main
from trefoil.training.loop import TrainingLoop
recipe, run, last, files = *sys.argv[1:3], int(sys.argv[3]), sys.argv[4] == "files"
bind_to_permissions()
step = TrainingLoop.step
def step_and_lock(self, micro_batches):
    values = step(self, micro_batches)
    if self.position.step == last:
        self.writer.finish()
        set_writable(run, files, False)
    return values
TrainingLoop.step = step_and_lock
if not last:
    Path(run).mkdir()
    set_writable(run, files, False)
sys.exit(main(["train", recipe]))
"""


@pytest.mark.parametrize(
    ("place", "step", "what", "kept"),
    [
        ("log.jsonl", 8, "files", "checkpoints are kept, and the same c"),
        ("checkpoints/step-00000012", 8, "folders", "checkpoints before it are kept"),
        pytest.param("", 0, "folders", "set another output_dir", marks=pytest.mark.slow),
        pytest.param("best", 19, "folders", "what was there before is kept", marks=pytest.mark.slow),
    ],
)
def test_a_folder_that_becomes_read_only_ends_it_in_a_line_and_it_goes_on_later(
    finished_run, tmp_path, place, step, what, kept
):
    recipe, run = tiny_recipe(tmp_path / "run"), tmp_path / "run"
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    (tmp_path / "script.py").write_text(READ_ONLY)
    process = start(tmp_path / "script.py", tmp_path / "recipe.yaml", run, step, what)
    assert process.returncode == 2, process.stderr
    assert "Traceback" not in process.stderr
    line = process.stderr.splitlines()[-1]
    assert line.startswith(f"error: {run / place}: cannot be written (Permission denied; ")
    assert f"; {kept}" in line
    set_writable(run, True, True)
    assert bool(step) == bool(checkpoint_folders(run / "checkpoints"))
    train(recipe)
    assert losses(run) == losses(finished_run)
    assert not list(run.glob("**/.*trefoil-[nod]*"))


# --- asked to stop where it is not at a step


EVALUATED = {"training": {"evaluate_every": 5, "save_every": 4, "max_steps": 12, "average_checkpoints": 2}}


@pytest.fixture(scope="module")
def evaluated_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    train(tiny_recipe(folder, **EVALUATED))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "step", "number"),
    [
        (1, 5, signal.SIGTERM),
        (2, 10, signal.SIGINT),
        (3, 12, signal.SIGTERM),  # the last
    ],
)
def test_asked_to_stop_while_it_is_evaluated_it_leaves_that_and_does_it_when_it_goes_on(
    evaluated_run, tmp_path, monkeypatch, which, step, number
):
    begun = []

    def evaluate_and_signal(self, model, final, evaluate=TranslationEvaluator.evaluate):
        begun.append(model)
        if len(begun) == which:
            signal.raise_signal(number)
            pytest.fail("it was evaluated to the end")
        return evaluate(self, model, final)

    patch = TranslationEvaluator, "evaluate", evaluate_and_signal
    train_and_die(monkeypatch, tiny_recipe(tmp_path / "run", **EVALUATED), patch, death=KeyboardInterrupt)
    state = load_state(latest_checkpoint(tmp_path / "run" / "checkpoints"))
    assert (state["step"], state["position"]["to_evaluate"]) == (step, True)
    train(tiny_recipe(tmp_path / "run", **EVALUATED))
    assert ended(tmp_path / "run") == ended(evaluated_run)


@pytest.mark.slow
def test_asked_to_stop_before_a_step_at_which_it_would_be_evaluated(evaluated_run, tmp_path, monkeypatch):
    def stop_and_step(self, micro_batches, step=TrainingLoop.step):
        self.stop_requested = self.position.step == 4
        return step(self, micro_batches)

    recipe = tiny_recipe(tmp_path / "run", **EVALUATED)
    train_and_die(monkeypatch, recipe, (TrainingLoop, "step", stop_and_step), death=KeyboardInterrupt)
    assert not entries(tmp_path / "run", "validation_loss")
    train(tiny_recipe(tmp_path / "run", **EVALUATED))
    assert ended(tmp_path / "run") == ended(evaluated_run)


@pytest.mark.slow
@pytest.mark.parametrize("step", [4, 12])
def test_asked_to_stop_while_it_saves_it_takes_no_further_step(evaluated_run, tmp_path, monkeypatch, step):
    def save_and_signal(self, planned, save=TrainingLoop._save):
        save(self, planned)
        if self.position.step == step:
            signal.raise_signal(signal.SIGTERM)

    recipe = tiny_recipe(tmp_path / "run", **EVALUATED)
    train_and_die(monkeypatch, recipe, (TrainingLoop, "_save", save_and_signal), death=KeyboardInterrupt)
    assert list(losses(tmp_path / "run")) == list(range(1, step + 1))
    assert not (tmp_path / "run" / "best" / "results.json").exists()
    train(tiny_recipe(tmp_path / "run", **EVALUATED))
    assert ended(tmp_path / "run") == ended(evaluated_run)


# trains, and one process is asked to stop before the second batch of its first evaluation
SIGNALLED_IN_EVALUATION = """
import os, signal, sys
from pathlib import Path
from trefoil.cli import main
from trefoil.tasks import text_to_text
from trefoil.training.loop import TrainingLoop
recipe, rank, file = sys.argv[1:]
score = TrainingLoop._scores
def score_and_signal(self, model):
    generate, number = model.generate, 0
    def generate_and_signal(*arguments, **options):
        nonlocal number
        number += 1
        if number == 1 and os.environ["RANK"] == rank:
            os.kill(os.getpid(), signal.SIGTERM)
        with open(file + os.environ["RANK"], "a") as counted:
            counted.write("x")
        return generate(*arguments, **options)
    model.generate = generate_and_signal
    try:
        return score(self, model)
    finally:
        del model.generate
TrainingLoop._scores = score_and_signal
sys.exit(main(["train", recipe]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_processes_leave_an_evaluation_together(tmp_path, rank):
    changes = merged(merged(TALKATIVE, EVALUATED), {"evaluation": {"tokens_per_batch": 40}})
    train(tiny_recipe(tmp_path / "whole", **changes))
    (tmp_path / "recipe.yaml").write_text(tiny_recipe(tmp_path / "run", **changes).to_yaml())
    (tmp_path / "script.py").write_text(SIGNALLED_IN_EVALUATION)
    process = start(tmp_path / "script.py", tmp_path / "recipe.yaml", rank, tmp_path / "batches", processes=2)
    assert process.returncode == 130, process.stderr
    assert [(tmp_path / f"batches{one}").read_text() for one in range(2)] == ["x", "x"]
    state = load_state(latest_checkpoint(tmp_path / "run" / "checkpoints"))
    assert (state["step"], state["position"]["to_evaluate"]) == (5, True)
    train(tiny_recipe(tmp_path / "run", **changes))
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "whole"), abs=1e-4)
    assert entries(tmp_path / "run", "validation_loss") == [5, 10, 12]


@pytest.mark.slow
@pytest.mark.parametrize("steps", [[9], [3, 10, 11]])
def test_where_it_was_stopped_changes_nothing_in_what_it_comes_to(evaluated_run, tmp_path, monkeypatch, steps):
    for number in steps:

        def stop_and_step(self, micro_batches, step=TrainingLoop.step, number=number):
            self.stop_requested = self.position.step == number - 1
            return step(self, micro_batches)

        recipe = tiny_recipe(tmp_path / "run", **EVALUATED)
        train_and_die(monkeypatch, recipe, (TrainingLoop, "step", stop_and_step), death=KeyboardInterrupt)
        assert load_state(latest_checkpoint(tmp_path / "run" / "checkpoints"))["step"] == number
    train(tiny_recipe(tmp_path / "run", **EVALUATED))
    assert ended(tmp_path / "run") == ended(evaluated_run)


@pytest.mark.slow
def test_a_line_of_the_log_is_the_same_though_the_run_was_stopped_before_it(tmp_path, monkeypatch):
    changes = {"training": {"max_steps": 11, "log_every": 5, "save_every": 7}}
    train(tiny_recipe(tmp_path / "whole", **changes))

    def stop_and_step(self, micro_batches, step=TrainingLoop.step):
        self.stop_requested = self.position.step == 2
        return step(self, micro_batches)

    recipe = tiny_recipe(tmp_path / "run", **changes)
    train_and_die(monkeypatch, recipe, (TrainingLoop, "step", stop_and_step), death=KeyboardInterrupt)
    train(tiny_recipe(tmp_path / "run", **changes))
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert list(losses(tmp_path / "run")) == [1, 5, 7, 10, 11]


@pytest.mark.slow
def test_stopped_at_its_last_step_it_is_still_evaluated(finished_run, tmp_path, monkeypatch):
    def stop_and_step(self, micro_batches, step=TrainingLoop.step):
        self.stop_requested = self.position.step == 19
        return step(self, micro_batches)

    recipe = tiny_recipe(tmp_path / "run")
    train_and_die(monkeypatch, recipe, (TrainingLoop, "step", stop_and_step), death=KeyboardInterrupt)
    assert not (tmp_path / "run" / "best").exists()
    results = train(tiny_recipe(tmp_path / "run"))
    assert results["steps"] == 20
    assert results["test"] == json.loads((finished_run / "best" / "results.json").read_text())["test"]


@pytest.mark.slow
def test_it_can_be_ended_before_the_step_that_it_had_reached(tmp_path, monkeypatch):
    train_and_die(monkeypatch, tiny_recipe(tmp_path / "run"), after_step(14))
    assert train(tiny_recipe(tmp_path / "run", training={"max_steps": 10}))["steps"] == 12


@pytest.mark.slow
def test_a_line_of_the_log_that_was_cut_off_is_dropped(finished_run, tmp_path, monkeypatch):
    train_and_die(monkeypatch, tiny_recipe(tmp_path / "run"), after_step(9))
    with (tmp_path / "run" / "log.jsonl").open("a") as log:
        log.write('{"step": 9, "lo')
    train(tiny_recipe(tmp_path / "run"))
    assert losses(tmp_path / "run") == losses(finished_run)


def test_a_finished_run_is_not_trained_again(finished_run, tmp_path, monkeypatch):
    shutil.copytree(finished_run, tmp_path / "run")
    monkeypatch.setattr(TrainingLoop, "step", lambda *_: pytest.fail("trained again"))
    before = json.loads((finished_run / "best" / "results.json").read_text())
    assert train(tiny_recipe(tmp_path / "run")) == before


@pytest.mark.slow
def test_more_steps_go_on_where_it_ended(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    assert train(tiny_recipe(tmp_path / "run", training={"max_steps": 24}))["steps"] == 24
    train(tiny_recipe(tmp_path / "straight", training={"max_steps": 24}))
    assert losses(tmp_path / "run") == losses(tmp_path / "straight")


@pytest.mark.slow
def test_a_better_mean_of_before_stays_the_best_though_more_steps_are_taken(tmp_path, monkeypatch):
    # of the best, of the mean, on the test split; and of the best, of what was there, of the mean, on the test split
    scores = iter([{"chrf": score} for score in (1.0, 9.0, 0.0, 2.0, 9.0, 3.0, 0.0)])
    while_training = itertools.count()

    def evaluate_as_told(self, model, final):
        return {**(next(scores) if final else {"chrf": float(next(while_training))}), "predictions": [""] * 6}

    monkeypatch.setattr(TranslationEvaluator, "evaluate", evaluate_as_told)
    run, changes = tmp_path / "run", {"average_checkpoints": 3, "evaluate_every": 10}
    assert train(tiny_recipe(run, training=changes))["weights"] == "mean of steps 12, 18, 20"
    mean = (run / "best" / "model.safetensors").read_bytes()
    train_and_die(monkeypatch, tiny_recipe(run, training=changes | {"max_steps": 31}), after_step(30))
    train_and_die(monkeypatch, tiny_recipe(run, training=changes | {"max_steps": 31}), after_step(31))
    assert not ModelFolder(run / "best").results.exists()  # one of the new steps was better than those before
    results = train(tiny_recipe(run, training=changes | {"max_steps": 31}))
    assert (results["weights"], results["steps"]) == ("mean of steps 12, 18, 20", 31)
    assert (run / "best" / "model.safetensors").read_bytes() == mean
    assert not (run / "finished").exists()


def test_a_loss_that_is_not_finite_ends_it(tmp_path):
    with pytest.raises(UserError, match=r"the loss is (nan|inf)"):
        train(
            tiny_recipe(
                tmp_path / "run",
                optimization={"learning_rate": 1e30, "warmup_steps": 0, "max_grad_norm": None},
                model={"config": {"norm_type": "layer_norm"}},
            )
        )


def test_a_logged_loss_is_that_of_all_labels_since_the_line_before(tmp_path, monkeypatch):
    taken, step = [], TrainingLoop.step

    def step_and_note(self, micro_batches):
        values = step(self, micro_batches)
        taken.append((values["loss"], values["labels"]))
        return values

    monkeypatch.setattr(TrainingLoop, "step", step_and_note)
    train(tiny_recipe(tmp_path / "run", training={"max_steps": 11, "log_every": 5, "save_every": 7}))
    before = 0
    for at, loss in losses(tmp_path / "run").items():
        summed = sum(one * labels for one, labels in taken[before:at])
        assert loss == pytest.approx(summed / sum(labels for _, labels in taken[before:at]), rel=1e-6)
        before = at
    assert list(losses(tmp_path / "run")) == [1, 5, 7, 10, 11]


def overflow(step):
    """A step of which, where the rate is high, one process's gradient is no number, though its loss is."""

    def step_and_overflow(self, micro_batches):
        hook = None
        is_last = self.share.rank == self.share.world_size - 1
        if self.position.step == 13 and self.recipe.optimization.learning_rate > 1e-3 and is_last:
            hook = next(self.model.parameters()).register_hook(lambda gradient: gradient * math.nan)
        try:
            values = step(self, micro_batches)
            assert math.isfinite(values.get("loss", values.get("skipped_loss")))
            return values
        finally:
            if hook is not None:
                hook.remove()

    return step_and_overflow


def kept(run_folder):
    """Every file of the best model and of the checkpoints, with its bytes."""
    folders = (run_folder / "best", run_folder / "checkpoints")
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert {"model.safetensors", "optimizer.safetensors", "state.json"} <= {file.name for file in files}
    return {str(file.relative_to(run_folder)): file.read_bytes() for file in files}


DIVERGING = {"training": {"evaluate_every": 7, "max_skipped_steps": 0}}
UNCLIPPED = {"max_grad_norm": None}


def told(run):
    return (
        "step 14: the norm of the gradient is nan, so training stops here; steps left out among the last 128: 1, the batch of "
        f"this one is in {run}/skipped/step-00000014, checkpoints up to now are kept. Lower optimization.learning_rate=0.003 "
        "or lengthen the warm-up; the same command then goes on from the last checkpoint"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        # nothing is clipped, and at this step it would be evaluated, be saved, or both
        pytest.param({"optimization": UNCLIPPED}, marks=pytest.mark.slow),
        pytest.param(
            {"optimization": UNCLIPPED, "training": {"evaluate_every": 4, "save_every": 7}}, marks=pytest.mark.slow
        ),
        pytest.param(
            {"optimization": UNCLIPPED, "training": {"evaluate_every": 7, "save_every": 7}}, marks=pytest.mark.slow
        ),
    ],
    ids=["clipped", "evaluated", "saved", "both"],
)
def test_a_gradient_that_is_no_number_touches_nothing_and_a_lower_rate_goes_on(tmp_path, monkeypatch, capsys, changes):
    run, before, step = tmp_path / "run", {}, overflow(TrainingLoop.step)

    def remember_and_step(self, micro_batches):
        if self.position.step == 13:
            self.writer.finish()
            before.update(kept(run))
        return step(self, micro_batches)

    monkeypatch.setattr(TrainingLoop, "step", remember_and_step)
    with pytest.raises(UserError) as error:
        train(tiny_recipe(run, **merged(DIVERGING, changes)))
    assert str(error.value) == told(run)
    assert kept(run) == before
    last = load_state(checkpoint_folders(run / "checkpoints")[-1])["step"]
    capsys.readouterr()
    results = train(tiny_recipe(run, **merged(merged(DIVERGING, changes), {"optimization": {"learning_rate": 1e-3}})))
    assert f"going on from step {last} " in capsys.readouterr().err
    assert results["steps"] == 20
    assert list(losses(run)) == list(range(1, 21))
    assert all(map(math.isfinite, losses(run).values()))


@pytest.mark.slow
def test_a_step_whose_gradient_is_no_number_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingLoop, "step", overflow(TrainingLoop.step))
    assert train(tiny_recipe(tmp_path / "run", optimization=UNCLIPPED))["steps"] == 20
    assert list(losses(tmp_path / "run")) == [*range(1, 14), *range(15, 21)]
    assert all(map(math.isfinite, losses(tmp_path / "run").values()))


def test_weights_are_looked_at_once_a_step_though_it_is_evaluated_and_saved(tmp_path, monkeypatch):
    looked = Counter()

    def look_and_count(self, isfinite=torch.Tensor.isfinite):
        looked[id(self)] += 1
        return isfinite(self)

    monkeypatch.setattr(torch.nn.Parameter, "isfinite", look_and_count, raising=False)
    monkeypatch.setattr(run, "first_not_finite", lambda weights: None)  # of the best, which is loaded to be measured
    train(tiny_recipe(tmp_path / "run", training={"max_steps": 4, "evaluate_every": 2, "save_every": 2}))
    assert set(looked.values()) == {2}


def test_a_run_may_have_another_precision_than_what_ran_before_it(tmp_path):
    Accelerator(mixed_precision="no")
    for number, precision in enumerate(("bf16", "no")):
        training = {"max_steps": 1, "mixed_precision": precision}
        train(tiny_recipe(tmp_path / str(number), training=training))


# `overflow` of this file, in each process, and a copy of what there was before
OVERFLOWING = """
import math, shutil, sys
from pathlib import Path
from trefoil.cli import main
from trefoil.training.loop import TrainingLoop
{overflow}
step = overflow(TrainingLoop.step)
def copy_and_step(self, micro_batches):
    if self.position.step == 13:
        self.writer.finish()
    if self.position.step == 13 and self.accelerator.is_main_process:
        shutil.copytree(self.run_folder.path, self.run_folder.path.parent / "before", dirs_exist_ok=True)
    return step(self, micro_batches)
TrainingLoop.step = copy_and_step
sys.exit(main(["train", *sys.argv[1:]]))
"""


@pytest.mark.slow
def test_a_gradient_of_one_process_that_is_no_number_ends_both(tmp_path):
    run = tmp_path / "run"
    (tmp_path / "recipe.yaml").write_text(tiny_recipe(run, **DIVERGING).to_yaml())
    (tmp_path / "script.py").write_text(OVERFLOWING.format(overflow=inspect.getsource(overflow)))
    process = start(tmp_path / "script.py", tmp_path / "recipe.yaml", processes=2)
    assert process.returncode != 0
    errors = {line for line in process.stderr.splitlines() if line.startswith("error: ")}
    assert errors == {f"error: {told(run)}"}, process.stderr
    files = sorted((run / "skipped" / "step-00000014").iterdir())
    assert [file.name for file in files] == ["rank-0.safetensors", "rank-1.safetensors"]
    assert kept(run) == kept(tmp_path / "before")
    lower = "optimization.learning_rate=1e-3"
    process = start(tmp_path / "script.py", tmp_path / "recipe.yaml", lower, processes=2)
    assert process.returncode == 0, process.stderr
    assert "going on from step 12 " in process.stderr
    assert list(losses(run)) == list(range(1, 21))


USUAL = {"evaluate_every": None, "save_every": None}


def entries(folder, key):
    return [entry["step"] for entry in map(json.loads, (folder / "log.jsonl").read_text().splitlines()) if key in entry]


def test_a_run_that_does_not_say_when_is_evaluated_and_saved_ten_times(tmp_path):
    train(tiny_recipe(tmp_path / "run", training=USUAL))
    assert entries(tmp_path / "run", "validation_loss") == [*range(2, 21, 2)]
    assert entries(tmp_path / "run", "checkpoint_seconds") == [*range(2, 21, 2)]


@pytest.mark.slow
def test_one_that_minutes_end_is_too(tmp_path):
    train(tiny_recipe(tmp_path / "run", training=USUAL | {"max_steps": None, "max_minutes": 1 / 60}))
    assert 4 <= len(entries(tmp_path / "run", "validation_loss")) <= 11
