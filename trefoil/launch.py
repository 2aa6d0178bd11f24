"""Several processes: the files that say how many and of which kind, and how they are started and end.

`python -m trefoil.launch` is `accelerate launch`, which where a process ends the run says so in one line.
"""

import argparse
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from .configuration.errors import UserError, reason
from .training.stopping import STOP_SIGNALS

WORLD_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
GOES_ON = "the same command goes on from the last checkpoint"

# exit codes of the command line; a scheduler may want another one of a run that was asked to stop
LOST, MISTAKE, STOPPED = 1, 2, 130


# --- ready files


def ready_files() -> dict[str, Path]:
    """The files for launchers that come with the package, by name."""
    folder = Path(str(resources.files("trefoil.training"))) / "launch"
    return {file.stem: file for file in sorted(folder.iterdir()) if file.suffix in (".yaml", ".sh")}


def ready_file(name: str) -> str:
    """The content of a ready file, for as many GPUs as this machine has.

    Raises:
        UserError: No such file.
    """
    files = ready_files()
    file = files.get(name.removesuffix(".yaml").removesuffix(".sh"))
    if file is None:
        raise UserError(f"trefoil launch {name}: no such file; there are {', '.join(files)}")
    content = file.read_text(encoding="utf-8")
    if devices := _device_count():
        content = re.sub(r"\d+(?= # one for each GPU)", str(devices), content)
    return content


def what_for(file: Path) -> str:
    """The line of a ready file that says what it is for."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if not line.startswith("#!")).removeprefix("# ")


def _device_count() -> int:
    import torch

    return torch.cuda.device_count()


def unused_devices(recipe: str) -> str | None:
    """How to use all GPUs, where this process was started alone on a machine that has several."""
    launched = {"ACCELERATE_MIXED_PRECISION", "ACCELERATE_USE_CPU", *WORLD_SIZES}  # else the launcher was told how many
    devices = 0 if launched & os.environ.keys() else _device_count()
    if devices < 2:
        return None
    return (
        f"one of {devices} GPUs is used; for all: trefoil launch ddp -o ddp.yaml; "
        f"accelerate launch --config_file ddp.yaml -m trefoil train {recipe}"
    )


# --- starting


def main(arguments: Sequence[str] | None = None) -> int:
    """`accelerate launch`; returns the exit code of what was started."""
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command, launch_command_parser

    parsed = launch_command_parser().parse_args(arguments)
    if parsed.config_file is not None:
        try:
            load_config_from_file(parsed.config_file)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{parsed.config_file}: {reason(error)}") from None
    for number in STOP_SIGNALS:
        signal.signal(number, _hand_on)  # accelerate, where it starts one process, would leave it alone
    return exit_code(lambda: launch_command(parsed), stopped_code(parsed.training_script_args))


def _hand_on(number: int, frame: Any) -> None:
    import psutil

    for child in psutil.Process().children():
        child.send_signal(number)


def start_missing_processes(arguments: Sequence[str]) -> int | None:
    """Where `accelerate launch --cpu --num_processes N` started this process alone, start all N.

    Without MPI, accelerate's launcher starts one process on a CPU whatever N is, and says nothing: the run would use a
    part of the machine and nobody would know. torch's own launcher needs no MPI.

    Args:
        arguments: Of the `trefoil` command.

    Returns:
        Their exit code, or None where none was missing.

    Raises:
        UserError: More than one process was asked for and N cannot be found out.
    """
    alone = not any(name in os.environ for name in WORLD_SIZES)
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    several_asked_for = "MASTER_ADDR" in os.environ  # accelerate sets it for more than one process
    if not (alone and on_cpu and several_asked_for):
        return None
    import psutil

    processes, restarts = asked_for(psutil.Process(os.getppid()).cmdline())
    if processes is None:
        raise UserError(
            "accelerate launch --cpu started one process only; start several with "
            f"torchrun --standalone --nproc-per-node N -m trefoil {' '.join(arguments)}"
        )
    return start(
        "--standalone", "--nproc-per-node", str(processes), "--max-restarts", str(restarts), "-m", "trefoil", *arguments
    )


def start(*arguments: str) -> int:
    """`torchrun`; returns the exit code of what was started."""
    from torch.distributed import run

    return exit_code(lambda: run.run(run.parse_args(arguments)), stopped_code(arguments))


def asked_for(command: Sequence[str]) -> tuple[int | None, int]:
    """Processes and restarts that an `accelerate launch` command line, or the file that it names, asks for."""
    from accelerate.commands.config.config_args import default_config_file, load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    ends = [place + 1 for place, word in enumerate(command) if re.search(r"launch(\.py)?$", word)]
    if not ends:
        return None, 0
    launched = launch_command_parser().parse_args(command[ends[0] :])
    processes = launched.num_processes
    if processes is None and (launched.config_file or os.path.isfile(default_config_file)):
        processes = load_config_from_file(launched.config_file).num_processes
    return processes, launched.max_restarts


# --- ending


def stopped_code(arguments: Sequence[str]) -> int:
    """The exit code of a run that was asked to stop, as the arguments of `trefoil train` say it."""
    parser = argparse.ArgumentParser(prog="trefoil train", add_help=False)
    add_stopped_code(parser)
    return parser.parse_known_args(arguments)[0].stopped_code


def add_stopped_code(parser: argparse.ArgumentParser) -> None:
    """The option by which `trefoil train`, and a launcher that starts it, are told."""
    parser.add_argument(
        "--stopped-code",
        type=_exit_code,
        default=STOPPED,
        metavar="N",
        help=f"the exit code of a run that was asked to stop, such as the one that the scheduler starts again (default: {STOPPED})",
    )


def _exit_code(text: str) -> int:
    if not text.isdecimal() or int(text) > 255 or int(text) in (LOST, MISTAKE):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an exit code from 0 to 255, without 1 and 2, which say errors"
        )
    return int(text)


def tell_launcher(message: str) -> None:
    """Leave a line to the launcher: in torch's own, it stands where a traceback would."""
    if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        extra = {"py_callstack": message, "timestamp": str(int(time.time()))}
        try:
            Path(file).write_text(json.dumps({"message": {"message": message, "extraInfo": extra}}), encoding="utf-8")
        except OSError:  # the disk is full; half a line would be the end of the launcher
            Path(file).unlink(missing_ok=True)


def by_torch() -> bool:
    """Whether torch's launcher started this process, and tells how it ended."""
    return "TORCHELASTIC_ERROR_FILE" in os.environ


def lost_contact(error: BaseException) -> bool:
    """Whether this is what a process meets with when another one is gone; whoever started both knows which."""
    gone = (
        "closed by peer", "reset by peer", "Broken pipe", "Connection refused", "remote process exited",
        "Connection was likely closed",
    )  # fmt: skip
    return by_torch() and isinstance(error, RuntimeError) and any(text in str(error) for text in gone)


LOST_CONTACT = "lost its connection to another process"


def exit_code(run: Callable[[], Any], stopped: int = STOPPED) -> int:
    """Run a launcher of torch or accelerate, say in one line what ended it, and return the exit code.

    Args:
        stopped: The exit code of processes that were asked to stop.
    """
    from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher import api

    class Agent(api.LocalElasticAgent):
        """Tells of failures as they are found, starts nothing again that would end the same way, and hands on what asks to
        stop."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] += "".join(f",{number.name}" for number in STOP_SIGNALS)

        def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
            result = super()._monitor_workers(worker_group)
            if result.is_failed():
                if cause(result.failures)[1].exitcode in (MISTAKE, stopped):
                    self._remaining_restarts = 0
                line = ending(result.failures, self._remaining_restarts, stopped)
                if line is not None:
                    print(line, file=sys.stderr, flush=True)
            return result

    # with a store that outlives a restart, processes find the addresses of those before them (torch 2.13)
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    for name in ("multiprocessing.api", "agent.server.api"):
        logging.getLogger(f"torch.distributed.elastic.{name}").setLevel(logging.CRITICAL)
    usual, api.LocalElasticAgent = api.LocalElasticAgent, Agent  # type: ignore[misc]
    try:
        run()
    except ChildFailedError as error:
        code = cause(error.failures)[1].exitcode
        return code if code in (MISTAKE, stopped) else 1
    except subprocess.CalledProcessError as error:  # of one process, which has told what it could
        if error.returncode < 0:
            print(f"error: {_was_lost('the process', error.returncode)}; {GOES_ON}", file=sys.stderr)
        return error.returncode if error.returncode > 0 else 1
    except SignalException:  # was handed on to the processes
        return stopped
    except RendezvousError as error:
        print(
            f"error: the other machines are gone or were not found: {reason(error.__cause__ or error)}; {GOES_ON}",
            file=sys.stderr,
        )
        return 1
    finally:
        api.LocalElasticAgent = usual  # type: ignore[misc]
    return 0


def cause(failures: Mapping[int, Any]) -> tuple[int, Any]:
    """Of the processes that failed, the rank and the failure (torch's) of the one that took the others along."""

    def order(item: tuple[int, Any]) -> tuple[bool, bool, int]:
        failure = item[1]  # SIGTERM is the launcher's own, which ends the others
        return failure.exitcode == -signal.SIGTERM, _message(failure) == LOST_CONTACT, failure.timestamp

    return min(failures.items(), key=order)


def ending(failures: Mapping[int, Any], restarts: int, stopped: int = STOPPED) -> str | None:
    """A line that tells of the processes' end; None where one of them has said all."""
    rank, failure = cause(failures)
    where, message = f"rank {rank} on {socket.gethostname()}", _message(failure)
    goes_on = f"starting again from the last checkpoint (restarts left: {restarts - 1})" if restarts else GOES_ON
    if failure.exitcode == stopped:
        return None
    if failure.exitcode == MISTAKE:
        first = failures.get(0)  # it tells its mistakes itself, though it may have been ended before it was out
        if first is not None and (first.exitcode == MISTAKE or _message(first) == message is not None):
            return None
        if message:
            return f"error: {where}: {message}"
    if failure.exitcode < 0:
        what = _was_lost(where, failure.exitcode)
    elif message:
        what = f"{where} {message}"
    else:
        what = f"{where} ended with exit code {failure.exitcode}"
    return f"{'' if restarts else 'error: '}{what}; {goes_on}"


def _message(failure: Any) -> str | None:
    """What the process left by `tell_launcher`."""
    return failure.message["message"] if isinstance(failure.message, dict) else None


def _was_lost(what: str, exit_code: int) -> str:
    number = signal.Signals(-exit_code)
    why = ", often for want of memory" if number == signal.SIGKILL else ""
    return f"{what} was lost ({number.name}{why})"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        sys.exit(MISTAKE)
