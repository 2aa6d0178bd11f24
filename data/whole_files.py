"""Files and folders that appear whole or not at all, also when the process is killed or the machine stops.

What is not finished lies beside its place under a name of our own, so that it is never taken for somebody else's.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

NEW, OLD, DELETED = "trefoil-new", "trefoil-old", "trefoil-deleted"


def aside(path: Path, kind: str) -> Path:
    """Where the new, the old or the deleted content of `path` lies meanwhile."""
    return path.with_name(f".{path.name}.{kind}")


def write_file(path: Path, content: str | bytes) -> None:
    """Put a file, text as UTF-8, in place of what `path` holds: a reader finds the old one, the new one or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = aside(path, NEW)
    try:
        new.write_bytes(content.encode() if isinstance(content, str) else content)
        sync(new)
        new.replace(path)
    except (Exception, KeyboardInterrupt):
        new.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_folder(path: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write a folder, and put it in place of what `path` holds."""
    with whole_folder(path) as new:
        fill(new)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new folder that takes the place of `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = aside(path, NEW)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    try:
        yield new
        put_in_place(new, path)
    except (Exception, KeyboardInterrupt):
        shutil.rmtree(new, ignore_errors=True)
        raise


def put_in_place(new: Path, path: Path) -> None:
    """Let a folder that is finished, `aside` of `path`, take its place."""
    old = aside(path, OLD)
    mode = new.stat().st_mode
    for entry in new.rglob("*"):
        # some libraries write files that only their owner can read
        entry.chmod(mode if entry.is_dir() else mode & 0o666)
        sync(entry)
    sync(new)
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    try:
        new.rename(path)
    except (Exception, KeyboardInterrupt):
        if old.exists():
            old.rename(path)
        raise
    sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove(path: Path) -> None:
    """Delete a file or folder, if it is there; a reader finds all of it or none."""
    deleted = aside(path, DELETED)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(deleted, ignore_errors=True)
        path.rename(deleted)
        shutil.rmtree(deleted)
    else:
        path.unlink(missing_ok=True)


def tidy(folder: Path) -> None:
    """Clear up what a kill left half done in `folder`; only for who owns it, and while nobody writes there."""
    for old in folder.glob(f".*.{OLD}"):
        path = folder / old.name.removeprefix(".").removesuffix(f".{OLD}")
        if not path.exists():
            old.rename(path)
    for left in [path for kind in (NEW, OLD, DELETED) for path in folder.glob(f".*.{kind}")]:
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def sync(path: Path) -> None:
    """Wait until a file, or what a folder says of its files, is on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
