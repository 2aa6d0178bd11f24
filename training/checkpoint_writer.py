"""Writes checkpoints beside training."""

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from safetensors.torch import save_file
from torch.distributed import checkpoint as distributed
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

from ..configuration.errors import UserError
from ..data.whole_files import NEW, aside, not_written, put_in_place, remove, settle, sync
from .checkpoints import (
    OPTIMIZER_FILE,
    STATE_FILE,
    checkpoint_folders,
    first_names,
    optimizer_tensors,
    step_of,
    to_average,
)
from .engine import Engine
from .manifest import write_manifest
from .nodes import in_turns, on_first


class CheckpointWriter:
    """Writes the checkpoints of a run while it goes on: the loop waits for a copy in memory, not for the disk.

    Every process calls its methods at the same steps. A checkpoint takes its place when all processes have written; `step`
    tells them of each other, so that nothing is waited for.

    Args:
        folder: Of the checkpoints.
        engine: Has the model and its optimisers.
        keep: So many stay as are averaged, and the two newest in any case.
        keep_every: Those of its multiples stay for good.
    """

    def __init__(self, folder: Path, engine: Engine, keep: int, keep_every: int | None = None) -> None:
        self.folder, self.engine, self.accelerator = folder, engine, engine.accelerator
        self.keep, self.keep_every = keep, keep_every
        self.path: Path | None = None  # of the one that is being written
        self.thread: threading.Thread | None = None
        self.error: BaseException | None = None  # of this process
        # the processes plan who writes what, beside what training sends
        self.group = torch.distributed.new_group(backend="gloo") if engine.in_parts else None

    @property
    def is_writing(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    def begin(
        self,
        step: int,
        state: dict[str, Any],
        save_model: Callable[[Path, dict[str, torch.Tensor] | None], None],
        planned: bool = True,
    ) -> float:
        """Copy all that the checkpoint of `step` holds, and begin to write it.

        Args:
            state: Numbers and the like.
            save_model: Writes the weights that it is given, those of a whole model, and what goes with them.
            planned: It is due at this step; else it is there because the run stops.

        Returns:
            Seconds that training stood still.

        Raises:
            UserError: This one, or the one before it, could not be written, on every process.
        """
        started = time.perf_counter()
        self.finish()
        path, is_main = self.folder / f"step-{step:08}", self.accelerator.is_main_process
        new = aside(path, NEW)

        def make_folder() -> None:
            try:
                self.folder.mkdir(exist_ok=True)  # but not the run's: somebody deleted that
                settle(path)
                new.mkdir()
            except OSError as error:
                raise _not_written(path, error) from None

        on_first(self.accelerator, make_folder, patient=False)
        weights: dict[str, torch.Tensor] = {}
        tensors: dict[str, torch.Tensor] = {}
        in_parts = self.engine.in_parts
        there, optimizer_state = self.engine.state()
        if in_parts or is_main:
            names = first_names(self.engine.bare)
            once = {name: _copy(there[name]) for name in there if names.get(name, name) == name}
            weights = once if in_parts else {name: once[names.get(name, name)] for name in there}
            tensors = {name: _copy(tensor) for name, tensor in optimizer_tensors(optimizer_state).items()}
            state = {**state, "step": step, "planned": planned, "optimizer": optimizer_state["param_groups"]}
        self.path = path

        def write() -> None:
            try:
                if in_parts:
                    writer = HuggingFaceStorageWriter(str(new), save_distributed=True)
                    distributed.save(weights | tensors, storage_writer=writer, process_group=self.group)
                else:
                    save_file(tensors, new / OPTIMIZER_FILE)
                if is_main:
                    save_model(new, None if in_parts else weights)
                    (new / STATE_FILE).write_text(json.dumps(state), encoding="utf-8")
                    write_manifest(new)
                    for file in new.iterdir():
                        sync(file)  # here, and not while training stands still
            except CheckpointException as error:  # every process gets all their failures
                self.error = error.failures.get(self.accelerator.process_index, (None,))[0]
            except Exception as error:
                self.error = error

        if in_parts or is_main:
            self.thread = threading.Thread(target=write, name="checkpoint", daemon=True)
            self.thread.start()
        return time.perf_counter() - started

    def finish(self) -> None:
        """Wait until the last checkpoint is written, and put it in its place.

        Raises:
            UserError: A process could not write, on every process.
        """
        if self.path is None:
            return
        if self.thread is not None:
            self.thread.join()
        path, self.path, self.thread = self.path, None, None
        error, self.error = self.error, None
        is_main = self.accelerator.is_main_process

        def settle() -> None:
            if error is not None:
                raise _not_written(path, error)
            if not is_main:
                return
            try:
                put_in_place(aside(path, NEW), path)
                for superseded in self._superseded_by(path):
                    remove(superseded)
            except OSError as failure:
                raise _not_written(path, failure) from None

        try:
            in_turns(self.accelerator, not is_main, settle, patient=False)  # the first after all have written
        except UserError:
            if is_main:
                shutil.rmtree(aside(path, NEW), ignore_errors=True)
            raise

    def _superseded_by(self, newest: Path) -> list[Path]:
        """What may go: older ones, and those of later steps, before which the run went on since they are damaged."""
        folders = checkpoint_folders(self.folder)
        up_to = folders[: folders.index(newest) + 1]
        stay = {*up_to[-2:], *to_average(up_to, self.keep)}
        if self.keep_every:
            stay |= {folder for folder in up_to if step_of(folder) % self.keep_every == 0}
        return [folder for folder in folders if folder not in stay]


def _not_written(path: Path, error: BaseException) -> UserError:
    return not_written(path, error, "checkpoints before it are kept")


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    """In the processor's memory."""
    return tensor.detach().to("cpu", copy=True).contiguous()
