"""Runs of several processes: what a launch says when it ends, and that it goes on by itself where it was cut."""

import os
import random
import signal
import socket
import subprocess
import sys
import time

import pytest
from training_runs import KILLED, TALKATIVE, losses, start, tiny_recipe

from trefoil.training.checkpoints import checkpoint_folders, load_state
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
    process = start(tmp_path / "script.py", "train", recipe, "data.train_split=nowhere", processes=2)
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


def test_a_lost_process_is_one_line(recipe, tmp_path):
    process = begin(OURS, "--standalone", "--nproc-per-node", 2, *planned(tmp_path, [(1, "step", 0.2)]))
    _, errors = process.communicate()
    assert process.returncode == 1
    assert lines(errors)[-1] == (
        f"error: rank 1 on {socket.gethostname()} was lost (SIGKILL, often for want of memory); the same command goes on "
        "from the last checkpoint"
    )
    assert "Traceback" not in errors


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


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    train(tiny_recipe(folder / "run", **TALKATIVE))
    return losses(folder / "run")


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


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("launcher", [TORCHRUN, OURS], ids=["torchrun", "ours"])
def test_two_machines_start_again_by_themselves(undisturbed, recipe, tmp_path, kills, launcher):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    options = ["--nnodes", 2, "--nproc-per-node", 1, "--max-restarts", 6]
    options += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}"]
    words = [*options, *planned(tmp_path, kills)]
    machines = [begin(launcher, *words)]
    time.sleep(1)
    machines.append(begin(launcher, *words))
    errors = [machine.communicate()[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], (kills, errors)
    assert (tmp_path / "kills").read_text() == "xxx", kills
    assert list(losses(tmp_path / "run")) == list(range(1, 21)), kills
    assert losses(tmp_path / "run") == pytest.approx(undisturbed, abs=1e-4), kills
