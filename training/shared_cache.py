"""Who writes token ids: one process of all where every node sees its files, else one on each node."""

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from ..data.progress import say

PATIENCE = 5.0  # seconds in which a file of one node is to be seen on another


@contextmanager
def writer_first(accelerator: Accelerator) -> Iterator[None]:
    """The block, on the processes that write before the others, which then find what was written."""
    first = accelerator.main_process_first if cache_is_shared(accelerator) else accelerator.local_main_process_first
    with first():
        yield


def cache_is_shared(accelerator: Accelerator) -> bool:
    """Whether the nodes have one cache of data sets among them; says where they do not. Every process calls this."""
    nodes = sum(gather_object([accelerator.is_local_main_process]))
    if nodes <= 1:
        return True
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "trefoil"
    name = [f".seen-by-all-{uuid.uuid4().hex}"]
    broadcast_object_list(name)
    file = folder / name[0]
    folder.mkdir(parents=True, exist_ok=True)
    if accelerator.is_main_process:
        file.touch()
    accelerator.wait_for_everyone()
    until = time.monotonic() + PATIENCE
    while not (seen := file.exists()) and time.monotonic() < until:
        time.sleep(0.1)
    everyone = all(gather_object([seen]))
    if accelerator.is_main_process:
        file.unlink(missing_ok=True)
        if not everyone:
            say(
                f"{nodes} nodes do not share {datasets.config.HF_DATASETS_CACHE}, so each encodes the data for itself; with "
                "HF_DATASETS_CACHE on a folder that all see, one does it for all"
            )
    return everyone
