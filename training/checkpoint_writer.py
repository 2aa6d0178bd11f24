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

from ..configuration.errors import UserError, reason
from ..data.whole_files import NEW, aside, put_in_place, remove, sync
from .checkpoints import OPTIMIZER_FILE, STATE_FILE, checkpoint_folders, first_names, load_state, optimizer_tensors
from .engine import Engine
from .nodes import in_turns, on_first


class CheckpointWriter:
    """Writes the checkpoints of a run while it goes on: the loop waits for a copy in memory, not for the disk.

    Every process calls its methods at the same steps. A checkpoint takes its place when all processes have written; `step`
    tells them of each other, so that nothing is waited for.

    Args:
        folder: Of the checkpoints.
        engine: Has the model and its optimisers.
        keep: How many of the newest stay.
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
    ) -> float:
        """Copy all that the checkpoint of `step` holds, and begin to write it.

        Args:
            state: Numbers and the like.
            save_model: Writes the weights that it is given, those of a whole model, and what goes with them.

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
                remove(new)
                new.mkdir(parents=True)
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
            state = {**state, "step": step, "optimizer": optimizer_state["param_groups"]}
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
                    files = {file.name: file.stat().st_size for file in new.glob("*.safetensors")}
                    (new / STATE_FILE).write_text(json.dumps({**state, "files": files}), encoding="utf-8")
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
                for old in checkpoint_folders(self.folder)[: -self.keep]:
                    if not (self.keep_every and load_state(old)["step"] % self.keep_every == 0):
                        remove(old)
            except OSError as failure:
                raise _not_written(path, failure) from None

        try:
            in_turns(self.accelerator, not is_main, settle, patient=False)  # the first after all have written
        except UserError:
            if is_main:
                shutil.rmtree(aside(path, NEW), ignore_errors=True)
            raise


def _not_written(path: Path, error: BaseException) -> UserError:
    return UserError(f"{path}: cannot be written ({reason(error)}); checkpoints before it are kept")


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    """In the processor's memory."""
    return tensor.detach().to("cpu", copy=True).contiguous()
