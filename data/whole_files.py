"""Files and folders that appear whole or not at all, also when the process is killed or the machine stops.

What is not finished lies beside its place under a name of our own, so that it is never taken for somebody else's.
"""

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..configuration.errors import UserError, reason

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


def require_writable(path: Path) -> None:
    """
    Raises:
        UserError: A file cannot be written there: a folder is, or there is none for it, or none that may be written to.
    """
    folder = os.path.dirname(os.path.abspath(path))  # os.path takes names of any length, pathlib does not
    if os.path.isdir(path):
        raise UserError(f"{path}: is a folder; name a file in it")
    if not os.path.isdir(folder):
        raise UserError(f"{path}: its folder does not exist")
    if not os.access(path if os.path.exists(path) else folder, os.W_OK):
        raise UserError(f"{path}: cannot be written; name a file elsewhere")


def write_folder(path: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write a folder, and put it in place of what `path` holds."""
    with whole_folder(path) as new:
        fill(new)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new folder that takes the place of `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = aside(path, NEW)
    settle(path)
    new.mkdir()
    try:
        yield new
        put_in_place(new, path)
    except (Exception, KeyboardInterrupt):
        shutil.rmtree(new, ignore_errors=True)
        raise


def put_in_place(new: Path, path: Path) -> None:
    """Let a folder that is finished, `aside` of `path`, take its place."""
    mode = new.stat().st_mode
    for entry in new.rglob("*"):
        # some libraries write files that only their owner can read
        entry.chmod(mode if entry.is_dir() else mode & 0o666)
        sync(entry)
    sync(new)
    if path.exists() and _exchange(new, path):
        sync(path.parent)
        shutil.rmtree(new, ignore_errors=True)
        return
    old = aside(path, OLD)
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


AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places at once, so that neither name is ever without one; False where the system cannot."""
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if exchange is None:
        return False
    if exchange(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):  # what a file system that does not know it answers
        return False
    raise OSError(number, os.strerror(number), str(other))


def remove(path: Path) -> None:
    """Delete a file or folder, if it is there; a reader finds all of it or none."""
    deleted = aside(path, DELETED)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(deleted, ignore_errors=True)
        path.rename(deleted)
        shutil.rmtree(deleted)
    else:
        path.unlink(missing_ok=True)


def settle(path: Path) -> None:
    """Clear up what a kill left half done of `path`; only while nobody writes it."""
    old = aside(path, OLD)
    if old.exists() and not path.exists():
        old.rename(path)
    for left in (aside(path, kind) for kind in (NEW, OLD, DELETED)):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)


def tidy(folder: Path) -> None:
    """The same of all that lies in `folder`; only for who owns it, and while nobody writes there."""
    for kind in (NEW, OLD, DELETED):
        for left in folder.glob(f".*.{kind}"):
            settle(folder / left.name.removeprefix(".").removesuffix(f".{kind}"))


def is_of_files(error: BaseException) -> bool:
    """Whether the system refused to read or write, also where a library in Rust makes an error of its own of that."""
    return isinstance(error, OSError) or "(os error " in str(error)


def not_written(path: Path, error: BaseException, then: str) -> UserError:
    """What a user is told where something cannot be written: the place, why, and how much room there is.

    Args:
        then: What is still there, or how to go on.
    """
    if isinstance(error, FileNotFoundError):
        then = "its folder was deleted or moved meanwhile"
    why = (isinstance(error, OSError) and error.strerror) or reason(error)
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    return UserError(f"{path}: cannot be written ({why}; {free / 1e9:.3g} GB are free there); {then}")


def sync(path: Path) -> None:
    """Wait until a file, or what a folder says of its files, is on the disk."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
