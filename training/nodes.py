"""What the processes of a run settle among them: who goes first, whose mistake it is, and which files all nodes see."""

import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import datasets
import torch.distributed
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.distributed import distributed_c10d

from ..configuration.errors import UserError
from ..data.encoded import cache_folder
from ..data.progress import say
from ..data.whole_files import NEW, aside, is_of_files, not_written, write_folder

CACHE_PATIENCE = 5.0  # seconds in which a file of one node is to be seen on another, before each encodes for itself
PATIENCE = 60.0  # and before a run is refused; so long may NFS believe what it knows of a folder

Result = TypeVar("Result")


def gather(value: Any) -> list[Any]:
    """The values of all processes."""
    return gather_object([value])


def wait_for_all(name: str) -> None:
    """Wait until every process is here, for hours where one tokenizes: NCCL has its collectives done within ten minutes, so
    they meet in the store by which they found each other.

    Args:
        name: Used once.
    """
    if not torch.distributed.is_initialized():
        return
    store = distributed_c10d._get_default_store()
    if store.add(f"{name}/count", 1) == torch.distributed.get_world_size():
        store.set(name, "all")
    pause = 0.001
    while not store.check([name]):
        time.sleep(pause)
        pause = min(2 * pause, 0.5)


def in_turns(accelerator: Accelerator, is_first: bool, work: Callable[[], Result], patient: bool = True) -> Result:
    """What `work` returns on each process; those that are first do it before the others. Every process calls this.

    Args:
        patient: It may take hours. Where it does not, the loss of another process is noticed at once.

    Raises:
        UserError: The mistake that `work` met with on any, raised on all; names the node where not all met with it.
    """
    result: list[Result] = []
    name = gather(uuid.uuid4().hex)[0]
    for turn in (True, False):
        mistake = None
        if is_first == turn:
            try:
                result = [work()]
            except UserError as error:
                mistake = str(error)
        if patient:
            wait_for_all(f"trefoil/{name}/{turn}")
        found = gather((accelerator.is_local_main_process, socket.gethostname(), mistake))
        told = [(host, text) for _, host, text in found if text is not None]
        if told:
            several = sum(is_local_main for is_local_main, _, _ in found) > 1
            host, text = told[0]
            raise UserError(f"on {host}: {text}" if several and len(told) < len(found) else text)
    return result[0]


def on_first(accelerator: Accelerator, work: Callable[[], Result], patient: bool = True) -> Result:
    """What `work` returns on the main process, told to all: another node may see an older state of the same files. Every
    process calls this.

    Raises:
        UserError: That of `work`.
    """
    is_main = accelerator.is_main_process
    return gather(in_turns(accelerator, is_main, work if is_main else lambda: None, patient))[0]


def write_once(accelerator: Accelerator, path: Path, fill: Callable[[Path], object], patient: bool = True) -> None:
    """`write_folder` by the main process. Every process calls this.

    Raises:
        UserError: It cannot be written.
    """

    def write() -> None:
        try:
            write_folder(path, fill)
        except Exception as error:
            if not is_of_files(error):
                raise
            raise not_written(path, error, "what was there before is kept") from None

    on_first(accelerator, write, patient)


def nodes_without(accelerator: Accelerator, folder: Path, patience: float) -> list[str]:
    """The nodes that do not see what the first one writes into a folder. Every process calls this.

    Args:
        patience: Seconds that they look for it.
    """
    found = gather((accelerator.is_local_main_process, uuid.uuid4().hex))
    if sum(is_local_main for is_local_main, _ in found) <= 1:
        return []
    file = aside(folder / f"seen-by-all-{found[0][1]}", NEW)
    if accelerator.is_main_process:
        file.touch()
    gather(None)
    until = time.monotonic() + patience
    while not (seen := file.exists()) and time.monotonic() < until:
        time.sleep(0.1)
    blind = Counter(host for host in gather(None if seen else socket.gethostname()) if host is not None)
    if accelerator.is_main_process:
        file.unlink(missing_ok=True)
    return list(blind)


def require_shared(accelerator: Accelerator, folder: Path) -> None:
    """Raises a UserError on every process where a node does not see what the first one writes into a run's folder."""
    if blind := nodes_without(accelerator, folder, PATIENCE):
        first = on_first(accelerator, socket.gethostname)
        raise UserError(
            f"{folder}: {', '.join(blind)} does not see what {first} writes there; set output_dir to a folder that all "
            "machines share"
        )


def writes_token_ids(accelerator: Accelerator) -> bool:
    """Whether this process writes them before the others: one of all where every node sees its files, else one on each."""
    blind = nodes_without(accelerator, cache_folder(), CACHE_PATIENCE)
    if blind and accelerator.is_main_process:
        say(
            f"{', '.join(blind)} does not share {datasets.config.HF_DATASETS_CACHE} with this node, so each encodes the data "
            "for itself; with HF_DATASETS_CACHE on a folder that all see, one does it for all"
        )
    return accelerator.is_local_main_process if blind else accelerator.is_main_process
