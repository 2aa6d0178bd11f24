import json
import re
import shlex
import subprocess
import sys

import pytest
import torch
import yaml
from accelerate.commands import launch as accelerate_launch
from accelerate.utils import FullyShardedDataParallelPlugin, ParallelismConfig
from accelerate.utils import launch as accelerate_environment
from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from trefoil import launch
from trefoil.cli import main
from trefoil.configuration.errors import UserError
from trefoil.recipes.schema import Recipe
from trefoil.training import zero

LAUNCHED = ("ACCELERATE_MIXED_PRECISION", "ACCELERATE_USE_CPU", "MASTER_ADDR", *launch.WORLD_SIZES)


@pytest.fixture(autouse=True)
def not_launched(monkeypatch):
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def devices(monkeypatch):
    """Says how many GPUs there are."""
    return lambda number: monkeypatch.setattr(torch.cuda, "device_count", lambda: number)


# --- ready files

FILES = launch.ready_files()
NAMES = sorted(name for name, file in FILES.items() if file.suffix == ".yaml" and name != "kubernetes")


def words_of(content):
    """The arguments of `accelerate launch` that the head of a file names."""
    head = re.findall(r"^#     (.*)$", content, re.MULTILINE)
    command = " ".join(head).replace("\\ ", " ").rpartition("launch --config_file ")[2]
    return ["--config_file", *shlex.split(command)]


def merged(words, file, monkeypatch):
    """What accelerate's launcher makes of its arguments and of a file: its arguments, and the environment."""
    monkeypatch.setattr(accelerate_environment, "is_port_in_use", lambda port: False)
    monkeypatch.setattr(accelerate_environment, "is_fp8_available", lambda: True)
    words = [str(file) if word.endswith(".yaml") and before == "--config_file" else word
             for before, word in zip(["", *words], words, strict=False)]  # fmt: skip
    parsed = accelerate_launch.launch_command_parser().parse_args(words)
    parsed, *_ = accelerate_launch._validate_launch_command(parsed)
    if parsed.use_deepspeed:
        parsed.deepspeed_fields_from_accelerate_config = ""
        return parsed, accelerate_environment.prepare_deepspeed_cmd_env(parsed)[1]
    if parsed.use_fsdp or parsed.multi_gpu:
        return parsed, accelerate_environment.prepare_multi_gpu_env(parsed)
    return parsed, accelerate_environment.prepare_simple_launcher_cmd_env(parsed)[1]


def to_torch(parsed):
    """What torch's launcher would be told."""
    script = ["--training_script", parsed.training_script, "--training_script_args", parsed.training_script_args]
    return torchrun.config_from_args(accelerate_launch._filter_args(parsed, torchrun.get_args_parser(), script))[0]


@pytest.fixture
def ready(monkeypatch, devices):
    devices(0)

    def read(name):
        return merged(words_of(launch.ready_file(name)), FILES[name], monkeypatch)

    return read


@pytest.mark.parametrize("name", NAMES)
def test_accelerate_takes_every_file_by_the_command_in_its_head(ready, name):
    parsed, environment = ready(name)
    content = yaml.safe_load(FILES[name].read_text())
    assert (parsed.training_script, parsed.training_script_args) == ("trefoil", ["train", "my-recipe.yaml"])
    assert environment["ACCELERATE_MIXED_PRECISION"] == content["mixed_precision"]
    known = vars(accelerate_launch.launch_command_parser().parse_args(["x"]))
    groups = {"fsdp_config": "fsdp_", "fp8_config": "fp8_", "parallelism_config": "", "deepspeed_config": ""}
    for group, prefix in groups.items():
        for key in content.get(group, {}):
            assert (key if key.startswith(prefix) else prefix + key) in known


@pytest.mark.parametrize("name", ["fsdp2", "hsdp", "fsdp2-tp", "fsdp2-cp"])
def test_the_files_for_fsdp_shard(ready, monkeypatch, name):
    _, environment = ready(name)
    for key, value in environment.items():
        if key.startswith(("FSDP_", "PARALLELISM_")):
            monkeypatch.setenv(key, value)
    assert environment["ACCELERATE_USE_FSDP"] == "true"
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    sizes = {"hsdp": (2, 8, 1, 1), "fsdp2-tp": (1, 4, 1, 2), "fsdp2-cp": (1, 4, 2, 1)}.get(name)
    if sizes is None:
        assert "ACCELERATE_USE_PARALLELISM_CONFIG" not in environment
        return
    assert environment["ACCELERATE_USE_PARALLELISM_CONFIG"] == "true"
    parallelism = ParallelismConfig()
    dimensions = ("dp_replicate", "dp_shard", "cp", "tp")
    assert tuple(getattr(parallelism, f"{dimension}_size") for dimension in dimensions) == sizes
    assert parallelism.total_size == yaml.safe_load(FILES[name].read_text())["num_processes"]


def test_the_file_for_deepspeed_says_nothing_that_would_be_refused(ready, monkeypatch):
    _, environment = ready("zero3")
    for key, value in environment.items():
        if key.startswith("ACCELERATE_"):
            monkeypatch.setenv(key, value)
    monkeypatch.setattr(zero.importlib.util, "find_spec", lambda name: name)
    plugin = zero.deepspeed_plugin(Recipe(task="translation", output_dir="run"))
    assert plugin.zero_stage == 3


@pytest.mark.parametrize("name", ["two-nodes", "hsdp"])
def test_several_machines_meet_and_start_again(ready, name):
    config = to_torch(ready(name)[0])
    assert (config.min_nodes, config.max_nodes, config.nproc_per_node) == (2, 2, 8)
    assert (config.rdzv_backend, config.rdzv_endpoint, config.max_restarts) == ("c10d", "HOST:29500", 3)


def test_fp8_is_torchaos(ready):
    environment = ready("fp8")[1]
    assert (environment["ACCELERATE_FP8_BACKEND"], environment["ACCELERATE_FP8_PAD_INNER_DIM"]) == ("AO", "True")


def test_one_gpu_and_cpus(ready):
    assert ready("one-gpu")[0].num_processes == 1
    parsed, environment = ready("cpu")
    assert (parsed.num_processes, environment["ACCELERATE_USE_CPU"]) == (2, "True")


def test_a_key_that_accelerate_does_not_know_would_be_found(tmp_path, monkeypatch):
    (tmp_path / "x.yaml").write_text("distributed_type: MULTI_GPU\nnum_processes: 2\nprocesses: 2\n")
    with pytest.raises(ValueError, match="unknown keys"):
        merged(["--config_file", "x.yaml", "x"], tmp_path / "x.yaml", monkeypatch)


def test_the_slurm_script_starts_what_accelerate_takes(monkeypatch):
    subprocess.run(["bash", "-n", FILES["slurm"]], check=True)
    script = FILES["slurm"].read_text()
    command = re.search(r"python -m trefoil\.launch(.*?)&\n", script, re.DOTALL)[1]
    values = {"$SLURM_NNODES": "2", "$((SLURM_NNODES * gpus))": "16", "$head": "node1"}
    values |= {"$((20000 + SLURM_JOB_ID % 10000))": "20007", "$@": "my-recipe.yaml", "\\\n": " "}
    for shell, value in values.items():
        command = command.replace(shell, value)
    parsed, _ = merged(shlex.split(command), FILES["two-nodes"], monkeypatch)
    assert parsed.training_script_args == ["train", "my-recipe.yaml"]
    config = to_torch(parsed)
    assert (config.rdzv_backend, config.rdzv_endpoint, config.max_restarts) == ("c10d", "node1:20007", 3)
    assert (config.max_nodes, config.nproc_per_node) == (2, 8)


# what of the script comes after its start, with stand-ins for SLURM's commands and for the run
SLURM_JOB = """
scancel() { echo "scancel $*"; kill -USR1 "$run"; }
scontrol() { echo "scontrol $*"; exit 0; }
SLURM_JOB_ID=5
bash -c 'trap "exit 130" USR1 TERM; sleep 0.5; kill -SIGNAL $PPID; for _ in 1 2 3 4 5 6; do sleep 0.2; done; exit 3' &
run=$!
"""


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [("USR1", 0, "scancel --signal=USR1 5\nscontrol requeue 5\n"), ("TERM", 3, "")],
)
def test_the_slurm_script_puts_back_what_saved_before_its_time_was_up(number, code, said):
    """And not what was cancelled."""
    script = FILES["slurm"].read_text()
    assert "#SBATCH --signal=B:USR1@300" in script
    job = SLURM_JOB.replace("SIGNAL", number) + script.partition("run=$!\n")[2].replace("exec ", "")
    process = subprocess.run(["bash", "-c", job], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (code, said), process.stderr


def test_the_kubernetes_job_starts_what_accelerate_takes(monkeypatch):
    service, job = yaml.safe_load_all(FILES["kubernetes"].read_text())
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    words = shlex.join(container["args"]).replace("--config_file=", "--config_file ")
    parsed, _ = merged(shlex.split(words), FILES["two-nodes"], monkeypatch)
    config = to_torch(parsed)
    assert (config.max_nodes, config.nproc_per_node) == (job["spec"]["completions"], 8)
    assert config.nproc_per_node == container["resources"]["limits"]["nvidia.com/gpu"]
    assert config.rdzv_endpoint == f"{job['metadata']['name']}-0.{pod['subdomain']}:29500"
    assert service["metadata"]["name"] == pod["subdomain"]
    assert {volume["name"] for volume in pod["volumes"]} == {mount["name"] for mount in container["volumeMounts"]}


# --- the command


def test_it_lists_prints_and_writes(capsys, tmp_path, devices):
    devices(0)
    assert main(["launch"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == list(FILES)
    assert "ddp         all GPUs of one machine, each with the whole model (DDP)" in listed
    assert main(["launch", "slurm"]) == 0
    assert capsys.readouterr().out == FILES["slurm"].read_text()
    assert main(["launch", "ddp.yaml", "-o", str(tmp_path / "my.yaml")]) == 0
    assert (tmp_path / "my.yaml").read_text() == FILES["ddp"].read_text()


def test_it_counts_the_gpus_of_this_machine(capsys, devices):
    devices(3)
    assert main(["launch", "fsdp2"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["num_processes"] == 3
    assert main(["launch", "two-nodes"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["num_processes"] == 16


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "trefoil launch nothing: no such file; there are cpu, ddp, fp8, "),
        (["ddp", "-o", "{}"], "{}: exists already; name another file"),
        (["ddp", "-o", "{}/x/y"], "{}/x/y: cannot be written (No such file or directory)"),
        (["-o", "{}/z"], "trefoil launch: give the name of the file to write, one that trefoil launch lists"),
    ],
)
def test_its_mistakes(capsys, tmp_path, words, message):
    assert main(["launch", *(word.format(tmp_path) for word in words)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message.format(tmp_path)}")


# --- several GPUs and one process


def test_gpus_that_are_left_unused_are_told(devices):
    devices(4)
    assert launch.unused_devices("my.yaml") == (
        "one of 4 GPUs is used; for all: trefoil launch ddp -o ddp.yaml; "
        "accelerate launch --config_file ddp.yaml -m trefoil train my.yaml"
    )


@pytest.mark.parametrize("name", ["WORLD_SIZE", "ACCELERATE_MIXED_PRECISION", "ACCELERATE_USE_CPU"])
def test_nothing_is_told_where_a_launcher_was_asked(devices, monkeypatch, name):
    devices(4)
    monkeypatch.setenv(name, "1")
    assert launch.unused_devices("my.yaml") is None


def test_nothing_is_told_of_one_gpu(devices):
    devices(1)
    assert launch.unused_devices("my.yaml") is None


# --- processes that accelerate does not start


@pytest.mark.parametrize(
    "command",
    [
        ["python", "bin/accelerate", "launch", "--num_processes", "3", "-m", "trefoil"],
        ["python", "bin/accelerate-launch", "--num-processes=3", "-m", "trefoil"],
        ["python", "-m", "accelerate.commands.launch", "--cpu", "--num_processes=3", "x.py"],
        ["python", "-m", "trefoil.launch", "--config_file", "{}", "-m", "trefoil", "train"],
    ],
)
def test_the_number_is_read_off_the_launcher(tmp_path, command):
    (tmp_path / "cpu.yaml").write_text("distributed_type: MULTI_CPU\nuse_cpu: true\nnum_processes: 3\n")
    assert launch.asked_for([word.format(tmp_path / "cpu.yaml") for word in command]) == (3, 0)


def test_so_are_the_restarts():
    command = ["python", "accelerate", "launch", "--num_processes", "2", "--max_restarts", "4", "x.py"]
    assert launch.asked_for(command) == (2, 4)


@pytest.fixture
def launched(monkeypatch):
    """The environment that `accelerate launch --cpu` leaves its one process in."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    started = []
    monkeypatch.setattr(launch, "start", lambda *words: started.append(words) or 0)
    return started


def test_the_missing_processes_are_started(launched, monkeypatch):
    monkeypatch.setattr(launch, "asked_for", lambda command: (2, 3))
    assert launch.start_missing_processes(["train", "recipe.yaml", "seed=1"]) == 0
    options = ("--standalone", "--nproc-per-node", "2", "--max-restarts", "3")
    assert launched == [(*options, "-m", "trefoil", "train", "recipe.yaml", "seed=1")]


def test_a_number_that_cannot_be_found_is_an_error(launched, monkeypatch):
    monkeypatch.setattr(launch, "asked_for", lambda command: (None, 0))
    with pytest.raises(UserError, match="torchrun --standalone --nproc-per-node N -m trefoil train x"):
        launch.start_missing_processes(["train", "x"])


@pytest.mark.parametrize("missing", ["ACCELERATE_USE_CPU", "MASTER_ADDR"])
def test_nothing_happens_without_such_a_launch(launched, monkeypatch, missing):
    monkeypatch.delenv(missing)
    assert launch.start_missing_processes(["train", "x"]) is None
    assert launched == []


def test_nothing_happens_where_the_processes_are_there(launched, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launch.start_missing_processes(["train", "x"]) is None
    assert launched == []


# --- what is said of an end


@pytest.fixture
def failed(tmp_path, monkeypatch):
    """A process that ended so, with the line that it left to the launcher."""
    monkeypatch.setattr(launch.socket, "gethostname", lambda: "node1")

    def make(exit_code, message=None, timestamp=None):
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        if message is not None:
            monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
            launch.tell_launcher(message)
        failure = ProcessFailure(local_rank=0, pid=1, exitcode=exit_code, error_file=str(file))
        failure.timestamp = failure.timestamp if timestamp is None else timestamp
        return failure

    return make


GONE = launch.LOST_CONTACT


def test_a_lost_process_is_named_and_not_those_that_it_took_along(failed):
    failures = {0: failed(1, GONE, 5), 1: failed(-9, timestamp=6), 2: failed(-15, timestamp=6)}
    lost = "rank 1 on node1 was lost (SIGKILL, often for want of memory)"
    assert launch.ending(failures, 0) == f"error: {lost}; the same command goes on from the last checkpoint"
    assert launch.ending(failures, 2) == f"{lost}; starting again from the last checkpoint (restarts left: 1)"


def test_where_the_lost_process_was_on_another_machine(failed):
    failures = {2: failed(1, GONE, 5), 3: failed(-15, timestamp=5)}
    expected = "rank 2 on node1 lost its connection to another process; starting again from the last checkpoint"
    assert launch.ending(failures, 1) == f"{expected} (restarts left: 0)"


def test_a_process_that_hung_is_not_the_cause(failed):
    failures = {0: failed(-9, timestamp=40), 1: failed(1, timestamp=10)}
    assert launch.ending(failures, 0).startswith("error: rank 1 on node1 ended with exit code 1; ")


def test_a_mistake_is_told_once(failed):
    assert launch.ending({0: failed(2, "a: no such file"), 1: failed(2, "a: no such file")}, 0) is None
    assert launch.ending({1: failed(2, "a: no such file")}, 0) == "error: rank 1 on node1: a: no such file"
    assert launch.ending({0: failed(-15), 1: failed(2, "b: x")}, 3) == "error: rank 1 on node1: b: x"


def test_who_was_asked_to_stop_has_said_so(failed):
    assert launch.ending({0: failed(130), 1: failed(130)}, 0) is None


def test_the_code_of_a_stopped_run_is_read_off_its_arguments(failed):
    assert launch.stopped_code(["train", "recipe.yaml", "seed=1"]) == 130
    assert launch.stopped_code(["--nproc-per-node", "2", "-m", "trefoil", "train", "--stopped-code=99", "x"]) == 99
    assert launch.ending({0: failed(99), 1: failed(99)}, 3, stopped=99) is None


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("[pair.cc:547] Connection closed by peer [127.0.0.1]:1"), True),
        (RuntimeError("Failed to recv, got 0 bytes. Connection was likely closed. Did the remote server crash?"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OSError("Connection refused"), False),
    ],
)
def test_lost_contact_is_known_where_a_launcher_tells_more(monkeypatch, tmp_path, error, lost):
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    assert not launch.lost_contact(error)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    assert launch.lost_contact(error) == lost


def test_the_line_stands_where_torch_puts_tracebacks(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    assert main(["launch", "nothing"]) == 2
    message = json.loads((tmp_path / "error.json").read_text())["message"]
    assert message["extraInfo"]["py_callstack"] == message["message"]
    assert message["message"].startswith("trefoil launch nothing: no such file")


@pytest.mark.slow
def test_a_file_that_accelerate_does_not_take_is_one_line(tmp_path):
    (tmp_path / "x.yaml").write_text("distributed_type: MULTI_GPU\nprocesses: 2\n")
    words = ["--config_file", tmp_path / "x.yaml", "-m", "trefoil", "train", "x"]
    command = [sys.executable, "-m", "trefoil.launch", *map(str, words)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 2
    assert process.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'x.yaml'}: ")
    assert "Traceback" not in process.stderr
