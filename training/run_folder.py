"""A run's folder: what it holds, whose it is, and whether a run may go on in it.

A folder is a run's if it holds the marker that only a run writes. Nothing is written, renamed or deleted in a folder that
is neither empty nor marked, with one exception: runs from before there were markers. Such a folder is gone on in, and
marked, if a checkpoint or a best model of ours lies in it and its recipe is the one that is run; it is never overwritten.
"""

import errno
import glob
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import filelock
import yaml

from ..configuration.errors import UserError
from ..data.progress import say
from ..data.whole_files import DELETED, NEW, OLD, not_written, remove, tidy, write_file
from ..recipes.reading import parse_yaml
from ..recipes.schema import DataRecipe, Recipe, SourceRecipe
from .checkpoints import checkpoint_folders, load_state, step_of

FORMAT = 1  # of the folder, as the marker says

KEPT = "checkpoints are kept, and the same command goes on from the last one"

NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)  # what a file system without locks answers

# these may change when a run goes on: they say how long, how loud and how fast, not what
FREE_KEYS = {
    ("output_dir",), ("overwrite",), ("training", "max_steps"), ("training", "max_epochs"),
    ("training", "max_minutes"), ("training", "log_every"), ("training", "trackers"), ("batches", "workers"),
    ("optimization", "learning_rate"), ("optimization", "warmup_steps"), ("optimization", "max_grad_norm"),
    ("training", "max_loss_sigmas"), ("training", "max_skipped_steps"),
}  # fmt: skip


class ModelFolder:
    """A model, its tokenizer, and what a reader wants to know of them."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        # of an adapter, which transformers would take for a whole model where there is a config.json
        self.adapter = self.path / "adapter_config.json"
        self.adapter_weights = self.path / "adapter_model.safetensors"
        self.model_config = self.path / "model_config.json"
        self.recipe = self.path / "recipe.yaml"
        self.results = self.path / "results.json"
        self.curve = self.path / "curve.png"
        self.example = self.path / "example.json"

    @property
    def is_adapter(self) -> bool:
        """Whether it holds, in place of a model, what PEFT adds to one."""
        return self.adapter.is_file() and not self.config.is_file()

    @property
    def holds_model(self) -> bool:
        return self.config.is_file() or self.is_adapter

    def read_results(self) -> dict[str, Any]:
        """What `results.json` says of the model; nothing where there is none.

        Raises:
            UserError: It is damaged.
        """
        try:
            return json.loads(self.results.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise UserError(f"{self.results}: is damaged ({error}); delete this file") from None

    def read_example(self) -> dict[str, str]:
        """What the model is asked of a row of its data; nothing where that is not known."""
        try:
            content = json.loads(self.example.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        is_known = isinstance(content, dict) and all(isinstance(text, str) for text in content.values())
        return content if is_known else {}


class RunFolder:
    """Everything that a run's folder holds."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.recipe = self.path / "recipe.yaml"
        self.tokenizer = self.path / "tokenizer"
        self.checkpoints = self.path / "checkpoints"
        self.best = ModelFolder(self.path / "best")
        self.averaged = self.path / "averaged"
        # what was the best when the run was at its end, where it was lengthened since and another has taken its place
        self.finished = ModelFolder(self.path / "finished")
        self.log = self.path / "log.jsonl"
        self.skipped = self.path / "skipped"
        self.predictions = self.path / "predictions.jsonl"
        self.tracker = self.path / "tracker"
        self.marker = self.path / ".trefoil-run"
        self.lock = self.path / ".trefoil-run.lock"

    def __str__(self) -> str:
        return str(self.path)

    def skipped_step(self, step: int) -> Path:
        """Where the batch of a step lies that was left out and ended the run: a file of each process."""
        return self.skipped / f"step-{step:08}"

    # --- whose it is

    @contextmanager
    def claimed(self, recipe: Recipe) -> Iterator[None]:
        """Make the folder this run's, or find that it is already, and keep others out until the block ends.

        Raises:
            UserError: It holds something else, or another process is at work in it.
        """
        self._require_ours(recipe)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = self._hold()
        except OSError as error:
            raise not_written(self.path, error, "set another output_dir") from None
        try:
            self._require_ours(recipe)  # what lay there may have changed before it was ours alone
            try:
                self._claim(recipe)
            except OSError as error:
                raise not_written(self.path, error, "set another output_dir") from None
            yield
        finally:
            if lock is not None:
                lock.release()

    def _require_ours(self, recipe: Recipe) -> None:
        """Raises a UserError where the folder is neither new nor a run's; changes nothing."""
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise UserError(f"{self}: is a file; set another output_dir")
        if self.marker.exists():
            self._read_marker()
            return
        left = {f".{self.marker.name}.{kind}" for kind in (NEW, OLD, DELETED)} | {self.lock.name}
        if all(entry.name in left for entry in self.path.iterdir()):
            return
        if not self._is_old_run():
            raise UserError(f"{self}: is not empty and holds no run of Trefoil; set another output_dir")
        if difference := self._difference(recipe):
            raise UserError(
                f"{self}: may hold another run ({difference}), without the marker {self.marker.name}, so it is not "
                "overwritten; set another output_dir"
            )

    def _is_old_run(self) -> bool:
        """Whether this must be a run from before there were markers."""
        ours = [self.best.path] if self.best.config.is_file() and self.best.recipe.is_file() else []
        for checkpoint in checkpoint_folders(self.checkpoints):
            try:
                if {"step", "position", "optimizer"} <= load_state(checkpoint).keys():
                    ours.append(checkpoint)
            except UserError:
                continue
        return self.recipe.is_file() and bool(ours)

    def _read_marker(self) -> dict[str, Any]:
        try:
            marker = json.loads(self.marker.read_text(encoding="utf-8"))
            known = isinstance(marker, dict) and marker["format"] <= FORMAT
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{self.marker}: is not the marker of a run; set another output_dir") from None
        if not known:
            raise UserError(
                f"{self}: was written by a newer version of Trefoil; install that, or set another output_dir"
            )
        return marker

    def _hold(self) -> filelock.BaseFileLock | None:
        """The lock of the folder. The system takes it from a process that ends, however it ends; over NFS it holds
        between machines where the server runs its lock service; None where the file system knows no locks."""
        lock = filelock.FileLock(self.lock, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except filelock.Timeout:
            try:
                holder = self._read_marker()
                who = f"process {holder['pid']} on {holder['host']} since {holder['since']}"
            except (UserError, KeyError):
                who = "another process that has just begun"
            raise UserError(
                f"{self}: another run is at work here ({who}); wait for it, stop it, or set another output_dir"
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            say(f"{self}: no locks on this file system ({error.strerror}), so start no second run in this folder")
            return None
        return lock

    def _claim(self, recipe: Recipe) -> None:
        ours = self.marker.exists()
        now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        holder = {
            "format": FORMAT, "pid": os.getpid(), "host": socket.gethostname(), "since": now, "from": os.getcwd(),
        }  # fmt: skip
        if ours:
            tidy(self.path)
            tidy(self.checkpoints)
            difference = self._difference(recipe)
            trained = bool(checkpoint_folders(self.checkpoints)) or self.best.path.exists()
            if (difference and not trained) or (recipe.overwrite and (difference or self._is_finished())):
                self._clear()
            elif difference:
                raise UserError(
                    f"{self}: holds another run ({difference}); "
                    "set another output_dir, or overwrite=true to delete that run"
                )
        write_file(self.marker, json.dumps(holder) + "\n")
        write_file(self.recipe, recipe.to_yaml())

    def _clear(self) -> None:
        """Delete what a run writes, and nothing else; the recipe last, so that a kill leaves no other run's parts
        without it."""
        for path in (self.best.path, self.checkpoints, self.averaged, self.finished.path, self.tracker, self.tokenizer,
                     self.log, self.skipped, self.predictions, self.recipe):  # fmt: skip
            remove(path)

    def _difference(self, recipe: Recipe) -> str | None:
        """In which key the run whose recipe lies there is another one than this."""
        try:
            content = parse_yaml(self.recipe.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError):
            content = None
        if not isinstance(content, dict):
            return "its recipe.yaml cannot be read"
        there, here = flat(content, keep_none=True), flat(recipe.to_dict(), keep_none=True)
        free = {".".join(key) for key in FREE_KEYS}
        for key in sorted((set(there) | set(here)) - free):
            if there.get(key) != here.get(key):
                return f"{key} is {there.get(key)!r} there and {here.get(key)!r} here"
        return None

    def _is_finished(self) -> bool:
        """Whether the run was measured after its last step."""
        checkpoints = checkpoint_folders(self.checkpoints)
        return bool(checkpoints) and self.best.read_results().get("steps") == step_of(checkpoints[-1])

    # --- its log

    def trim_log(self, step: int) -> None:
        """Drop what was logged after a step, the last of the checkpoint that the run goes on from."""
        if not self.log.exists():
            return
        kept = []
        for line in self.log.read_bytes().splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + b"\n")
            except ValueError:
                break  # the process died while writing this line
        write_file(self.log, b"".join(kept))


def best_model(source: str | Path) -> str:
    """The best model of a run where a run's folder is given, else the folder or Hub id itself.

    Raises:
        UserError: It is the folder of a run that has none yet.
    """
    run = RunFolder(source)
    if ModelFolder(source).config.is_file():
        return str(source)
    if run.best.path.is_dir():
        return str(run.best.path)
    if run.marker.is_file():
        whole = [folder for folder in checkpoint_folders(run.checkpoints) if (folder / "model.safetensors").is_file()]
        as_it_is = f", or take the model of its last checkpoint as it is: {whole[-1]}" if whole else ""
        raise UserError(
            f"{source}: a run that was never measured, so it has no best model; go on with the same `trefoil train` "
            f"command{as_it_is}"
        )
    return str(source)


def find_data(recipe: Recipe, folder: str | Path) -> None:
    """Let the relative places of a recipe's data that are not here count from where its run was started.

    Args:
        folder: The run's, or that of its best model.
    """
    parts: list[DataRecipe | SourceRecipe] = [recipe.data, *recipe.data.sources]
    for run in (RunFolder(folder), RunFolder(Path(folder).resolve().parent)):
        with suppress(OSError, ValueError, KeyError, TypeError):
            started_in = json.loads(run.marker.read_text(encoding="utf-8"))["from"]
            for part in parts:
                place = os.path.join(started_in, part.path or "")
                if part.path is not None and not glob.glob(part.path) and glob.glob(place):
                    part.path = place


def is_own_model(folder: str | Path) -> bool:
    """Whether a folder is the best model of a run that this machine made, as the run's marker says."""
    run = RunFolder(Path(folder).resolve().parent)
    try:
        return Path(folder).resolve() == run.best.path and run._read_marker().get("host") == socket.gethostname()
    except UserError:
        return False


def flat(content: dict[str, Any], prefix: str = "", keep_none: bool = False) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            values |= flat(value, f"{prefix}{key}.", keep_none)
        elif keep_none or isinstance(value, bool | int | float | str):
            values[f"{prefix}{key}"] = value
        else:
            values[f"{prefix}{key}"] = str(value)
    return values
