"""Several processes on a CPU, as asked of `accelerate launch`."""

import os
import sys
from collections.abc import Sequence

from .configuration.errors import UserError

WORLD_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def start_missing_processes(arguments: Sequence[str]) -> None:
    """Where `accelerate launch --cpu --num_processes N` started this process alone, replace it by all N.

    Without MPI, accelerate's launcher starts one process on a CPU whatever N is, and says nothing: the run would use a
    part of the machine and nobody would know. torch's own launcher needs no MPI.

    Args:
        arguments: Of the `trefoil` command.

    Raises:
        UserError: More than one process was asked for and N cannot be found out.
    """
    alone = not any(name in os.environ for name in WORLD_SIZES)
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    several_asked_for = "MASTER_ADDR" in os.environ  # accelerate sets it for more than one process
    if not (alone and on_cpu and several_asked_for):
        return
    import psutil

    processes = processes_asked_for(psutil.Process(os.getppid()).cmdline())
    if processes is None:
        raise UserError(
            "accelerate launch --cpu started one process only; start several with "
            f"torchrun --standalone --nproc-per-node N -m trefoil {' '.join(arguments)}"
        )
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    os.execv(sys.executable, [sys.executable, *launcher, "-m", "trefoil", *arguments])


def processes_asked_for(command: Sequence[str]) -> int | None:
    """N of `--num_processes N` on an `accelerate launch` command line, or of accelerate's configuration file."""
    for position, word in enumerate(command):
        name, _, value = word.partition("=")
        if name.replace("-", "_") == "__num_processes":
            return int(value or command[position + 1])
    from accelerate.commands.config.config_args import default_config_file, load_config_from_file

    return load_config_from_file(None).num_processes if os.path.isfile(default_config_file) else None
