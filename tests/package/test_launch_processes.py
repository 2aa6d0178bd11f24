"""Runs of several processes: what a launch says when it ends, and that it goes on by itself where it was cut."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training_runs import KILLED, TALKATIVE, losses, start_by_torchrun, tiny_recipe

from benchmarks.on_cpu import ENGINES
from trefoil.training.checkpoints import checkpoint_folders, latest_checkpoint, load_state
from trefoil.training.run import train

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
OURS = [sys.executable, "-c", "import sys; from trefoil.launch import start; sys.exit(start(*sys.argv[1:]))"]


def lines(text):
    """What was printed but what libraries of this machine say of themselves."""
    return [line for line in text.splitlines() if "torchao" not in line and "_pytree.py" not in line]


def begin(launcher, *words, **environment):
    on_cpu = {"ACCELERATE_USE_CPU": "true", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    words = [*launcher, *map(str, words)]
    return subprocess.Popen(words, env=ENVIRONMENT | on_cpu | environment, stderr=subprocess.PIPE, text=True)


def launch(*arguments):
    """By accelerate's launcher, as ours runs it."""
    command = [sys.executable, "-m", "trefoil.launch", *map(str, arguments)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)


@pytest.fixture
def cpu_file(tmp_path):
    (tmp_path / "cpu.yaml").write_text("distributed_type: MULTI_CPU\nuse_cpu: true\nnum_processes: 2\n")
    return tmp_path / "cpu.yaml"


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "recipe.yaml").write_text(tiny_recipe(tmp_path / "run", **TALKATIVE).to_yaml())
    return tmp_path / "recipe.yaml"


@pytest.mark.slow
def test_a_mistake_is_one_line_of_the_whole_launch(recipe, cpu_file):
    process = launch("--config_file", cpu_file, "-m", "trefoil", "train", recipe, "data.train_split=nowhere")
    assert process.returncode == 2
    assert lines(process.stderr) == [
        "error: the embedded data has no split 'nowhere'; there are train, validation, test"
    ]


@pytest.mark.slow
def test_processes_that_would_each_train_alone_are_refused(recipe, tmp_path):
    """As those of an FSDP file with `use_cpu: true`, of which accelerate's launcher says nothing to them."""
    alone = {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "ACCELERATE_USE_CPU": "false",
        "CUDA_VISIBLE_DEVICES": "",
    }
    words = ["--standalone", "--nproc-per-node", 2, "-m", "trefoil", "train", recipe]
    process = begin(OURS, *words, **alone)
    _, errors = process.communicate()
    assert process.returncode == 2
    assert lines(errors) == [
        "error: accelerate finds no GPU for the 2 processes of this launch, so each would train alone; for CPUs, launch by "
        "the file of `trefoil launch cpu`, or set ACCELERATE_USE_CPU=true"
    ]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_plain_torchrun_shows_the_mistake_where_tracebacks_stand(recipe, tmp_path):
    (tmp_path / "script.py").write_text("import sys; from trefoil.cli import main; sys.exit(main(sys.argv[1:]))")
    process = start_by_torchrun(tmp_path / "script.py", "train", recipe, "data.train_split=nowhere", processes=2)
    mistake = "the embedded data has no split 'nowhere'; there are train, validation, test"
    assert process.stderr.count(f"error: {mistake}") <= 1  # the other one may have been faster, and ended it
    assert f"traceback : {mistake}" in process.stderr


# --- lost processes


def planned(folder, kills):
    """The files of a run whose processes are killed: `kills` are (rank, since, seconds)."""
    (folder / "script.py").write_text(KILLED)
    (folder / "plan").write_text("".join(f"{rank} {since} {seconds:.3f}\n" for rank, since, seconds in kills))
    (folder / "kills").write_text("")
    return [folder / "script.py", folder / "recipe.yaml", folder / "plan", folder / "kills"]


@pytest.mark.slow
def test_a_lost_process_is_one_line(recipe, tmp_path):
    process = begin(OURS, "--standalone", "--nproc-per-node", 2, *planned(tmp_path, [(1, "step", 0.2)]))
    _, errors = process.communicate()
    assert process.returncode == 1
    assert lines(errors)[-1] == (
        f"error: rank 1 on {socket.gethostname()} was lost (SIGKILL, often for want of memory); the same command goes on "
        "from the last checkpoint"
    )
    assert "Traceback" not in errors


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    train(tiny_recipe(folder / "run", **TALKATIVE))
    return losses(folder / "run")


# trains, and from a step on one process can write no file of more than some bytes, as where its disk is full
FULL = """
import os, resource, signal, sys
from pathlib import Path
from benchmarks import on_cpu
on_cpu.let_in()
from trefoil.cli import main
from trefoil.training.loop import TrainingLoop
recipe, rank, last, size = sys.argv[1:]
step = TrainingLoop.step
def step_and_fill(self, micro_batches):
    if self.position.step == int(last):
        self.writer.finish()
    if os.environ["RANK"] == rank and self.position.step == int(last):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), resource.RLIM_INFINITY))
    return step(self, micro_batches)
TrainingLoop.step = step_and_fill
sys.exit(main(["train", recipe]))
"""


def run_until_full(folder, rank, size, engine):
    (folder / "script.py").write_text(FULL)
    words = ["--standalone", "--nproc-per-node", 2, "--max-restarts", 3]
    root = str(Path(__file__).parents[2])
    process = begin(
        OURS, *words, folder / "script.py", folder / "recipe.yaml", rank, 7, size, **engine, PYTHONPATH=root
    )
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert "Traceback" not in errors
    return [line for line in lines(errors) if "error" in line]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rank"), [("FSDP2 on 2", 0), ("FSDP2 on 2", 1), ("DDP on 2", 0)])
def test_a_full_disk_is_one_line(undisturbed, recipe, tmp_path, name, rank):
    """The second checkpoint of four cannot be written."""
    full = run_until_full(tmp_path, rank, 20_000, ENGINES[name][1])
    checkpoints = tmp_path / "run" / "checkpoints"
    # the launcher tells it where the first process was ended before it could
    what = rf"error: (rank 1 on \S+: )?{checkpoints}/step-00000012: cannot be written \(.*File too large.*\); checkpoints before it are kept"
    assert len(full) == 1
    assert re.fullmatch(what, full[0]), full
    assert [path.name for path in checkpoints.iterdir()] == ["step-00000006"]
    process = begin(OURS, "--standalone", "--nproc-per-node", 2, "-m", "trefoil", "train", recipe)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert losses(tmp_path / "run") == pytest.approx(undisturbed, abs=1e-4)


@pytest.mark.slow
def test_a_disk_too_full_for_the_log_is_one_line(recipe, tmp_path):
    (full,) = run_until_full(tmp_path, 0, 1, {})
    run = tmp_path / "run"
    assert full.startswith(f"error: {run / 'log.jsonl'}: cannot be written (File too large; ")
    assert full.endswith(" GB are free there); checkpoints are kept, and the same command goes on from the last one")
    assert latest_checkpoint(run / "checkpoints").name == "step-00000006"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "options", "code"),
    [(signal.SIGTERM, [], 130), (signal.SIGUSR1, ["--stopped-code", 99], 99)],
    ids=["SIGTERM", "SIGUSR1"],
)
def test_asked_to_stop_all_leave_a_checkpoint(recipe, tmp_path, cpu_file, number, options, code):
    changes = ["training.max_steps=1000000", "batches.workers=1"]  # a signal reaches the workers too
    command = ["--config_file", cpu_file, "-m", "trefoil", "train", *options, recipe, *changes]
    process = begin([sys.executable, "-m", "trefoil.launch"], *command)
    errors = []
    for line in process.stderr:
        errors.append(line)
        if line.startswith("step 3/"):
            process.send_signal(number)
    assert process.wait() == code, errors
    assert errors[-1] == "stopped; the same command goes on from the last checkpoint\n"
    assert "Traceback" not in "".join(errors)
    assert load_state(checkpoint_folders(tmp_path / "run" / "checkpoints")[-1])["step"] >= 3


@pytest.fixture
def kills():
    """Three processes at random, and when: one as it starts, the others at work."""
    moments = [("start", random.uniform(0, 10)), ("step", random.uniform(0, 1)), ("step", random.uniform(0, 1))]
    random.shuffle(moments)
    return [(random.randrange(2), *moment) for moment in moments]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("launcher", [TORCHRUN, OURS], ids=["torchrun", "ours"])
def test_it_starts_again_by_itself(undisturbed, recipe, tmp_path, kills, launcher):
    options = ["--standalone", "--nproc-per-node", 2, "--max-restarts", 3]
    process = begin(launcher, *options, *planned(tmp_path, kills))
    _, errors = process.communicate()
    assert process.returncode == 0, (kills, errors)
    assert (tmp_path / "kills").read_text() == "xxx", kills
    assert list(losses(tmp_path / "run")) == list(range(1, 21)), kills
    assert losses(tmp_path / "run") == pytest.approx(undisturbed, abs=1e-4), kills
    if launcher is OURS:
        assert errors.count("was lost (SIGKILL, often for want of memory); starting again") == 3, errors
        assert "Traceback" not in errors


# --- several machines


def two_machines(launcher, *words, **environment):
    """The launchers of two machines that find each other."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    words = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}", "--nproc-per-node", 1, *words]
    first = begin(launcher, *words, **environment)
    time.sleep(1)
    return [first, begin(launcher, *words, **environment)]


LONG = TALKATIVE | {"training": {"max_steps": 120, "save_every": 6}}


def content_of(run):
    """What a run came to."""
    results = json.loads((run / "best" / "results.json").read_text())
    kept = sorted(path.name for path in (run / "checkpoints").iterdir())
    return results["test"], results["validation"], (run / "predictions.jsonl").read_text(), kept


@pytest.fixture(scope="module")
def undisturbed_by_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "recipe.yaml").write_text(tiny_recipe(folder / "run", **LONG).to_yaml())
    words = ["--standalone", "--nproc-per-node", 2, *planned(folder, [])]
    assert begin(OURS, *words).wait() == 0
    return folder / "run"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("launcher", [TORCHRUN, OURS], ids=["torchrun", "ours"])
def test_two_machines_survive_ten_kills(undisturbed_by_two, tmp_path, launcher):
    """Of either machine's process, as it starts, at work, while a checkpoint is written, and after the last step."""
    (tmp_path / "recipe.yaml").write_text(tiny_recipe(tmp_path / "run", **LONG).to_yaml())
    moments = [("start", random.uniform(0, 10)) for _ in range(2)]
    moments += [("step", random.uniform(0, 0.5)) for _ in range(3)]
    moments += [("writing", random.uniform(0, 0.3)) for _ in range(4)]
    random.shuffle(moments)
    kills = [(random.randrange(2), *moment) for moment in [*moments, ("end", random.uniform(0, 0.2))]]
    machines = two_machines(launcher, "--nnodes", 2, "--max-restarts", 30, *planned(tmp_path, kills))
    errors = [machine.communicate()[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], (kills, errors)
    assert (tmp_path / "kills").read_text() == "x" * 10, kills
    assert list(losses(tmp_path / "run")) == list(range(1, 121)), kills
    assert losses(tmp_path / "run") == pytest.approx(losses(undisturbed_by_two), abs=1e-6), kills
    assert content_of(tmp_path / "run") == content_of(undisturbed_by_two), kills
    if launcher is OURS:
        told = [line for text in errors for line in lines(text) if "was lost" in line]
        assert len(told) == 10, (kills, errors)
        assert "Traceback" not in "".join(errors)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("lost", [1, 0], ids=["another", "the one where all meet"])
def test_a_machine_that_never_comes_back_is_told_and_the_other_goes_on_alone(undisturbed, recipe, tmp_path, lost):
    words = ["--nnodes", 2, "--max-restarts", 3, "--rdzv-conf", "join_timeout=20"]
    machines = two_machines(OURS, *words, *planned(tmp_path, [(lost, "writing", 0.35)]), WITH_THE_MACHINE="")
    errors = [machine.communicate(timeout=300)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == ([1, -9] if lost else [-9, 1]), errors
    *_, last = lines(errors[1 - lost])
    assert last.startswith("error: the other machines are gone or were not found: "), errors
    assert last.endswith("; the same command goes on from the last checkpoint")
    assert "Traceback" not in errors[1 - lost]
    assert not (tmp_path / "run" / "best").exists()
    train(tiny_recipe(tmp_path / "run", **TALKATIVE))
    assert losses(tmp_path / "run") == pytest.approx(undisturbed, abs=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_where_one_machine_is_enough_it_goes_on_by_itself(undisturbed, recipe, tmp_path):
    words = ["--nnodes", "1:2", "--max-restarts", 3, "--rdzv-conf", "last_call_timeout=5"]
    machines = two_machines(OURS, *words, *planned(tmp_path, [(1, "step", 0.1)]), WITH_THE_MACHINE="")
    errors = [machine.communicate(timeout=300)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, -9], errors
    assert "Traceback" not in errors[0]
    assert losses(tmp_path / "run") == pytest.approx(undisturbed, abs=1e-4)
