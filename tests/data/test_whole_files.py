import itertools
import os
import random
import re
import time
from multiprocessing import get_context
from pathlib import Path

import pytest

from trefoil.data import whole_files
from trefoil.data.whole_files import not_written, remove, settle, tidy, whole_folder, write_file, write_folder


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- folders


def fill_with(text, then=None):
    def fill(folder):
        (folder / "a").write_text(text)
        (folder / "sub").mkdir()
        (folder / "sub" / "b").write_text(text)
        if then is not None:
            raise then

    return fill


def test_a_folder_is_written_and_replaced(tmp_path):
    folder = tmp_path / "new" / "x"
    write_folder(folder, fill_with("one"))
    write_folder(folder, fill_with("two"))
    assert contents(tmp_path) == {"new/x/a": b"two", "new/x/sub/b": b"two"}


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_folder(tmp_path, error):
    write_folder(tmp_path / "x", fill_with("one"))
    with pytest.raises(type(error)):
        write_folder(tmp_path / "x", fill_with("two", then=error))
    assert contents(tmp_path) == {"x/a": b"one", "x/sub/b": b"one"}
    write_folder(tmp_path / "x", fill_with("three"))
    assert contents(tmp_path) == {"x/a": b"three", "x/sub/b": b"three"}


class KilledError(BaseException):
    """Stands for the end of the process: nothing catches it."""


@pytest.mark.parametrize("exchanges", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_killed_at_any_time_it_leaves_the_old_folder_or_the_new_one(tmp_path, monkeypatch, exchanges):
    if not exchanges:
        monkeypatch.setattr(whole_files, "_exchange", lambda one, other: False)
    else:
        for name in "ab":
            (tmp_path / name).mkdir()
        if not whole_files._exchange(tmp_path / "a", tmp_path / "b"):
            pytest.skip("folders cannot change places here")
        for name in "ab":
            (tmp_path / name).rmdir()
    folder, texts = tmp_path / "x", [b"0" * 1000, b"1" * 1000]
    write_folder(folder, fill_with("0" * 1000))

    def replace_again_and_again():
        for number in itertools.count(1):
            write_folder(folder, fill_with(str(number % 2) * 1000))

    for _ in range(3):
        writer = get_context("fork").Process(target=replace_again_and_again)
        writer.start()
        until = time.monotonic() + random.uniform(0.02, 0.1)
        while time.monotonic() < until:
            assert folder.is_dir() or not exchanges
        writer.kill()
        writer.join()
        assert folder.is_dir() or not exchanges
        settle(folder)
        assert [path.name for path in tmp_path.iterdir()] == ["x"]
        assert contents(folder) in [{"a": text, "sub/b": text} for text in texts]


@pytest.mark.parametrize("which", range(1, 3))
def test_killed_between_its_renames_a_folder_is_still_there_after_tidying(tmp_path, monkeypatch, which):
    monkeypatch.setattr(whole_files, "_exchange", lambda one, other: False)
    write_folder(tmp_path / "x", fill_with("one"))
    calls, rename = [], Path.rename

    def rename_or_die(path, target):
        calls.append(path)
        if len(calls) == which:
            raise KilledError
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename_or_die)
        with pytest.raises(KilledError):
            write_folder(tmp_path / "x", fill_with("two"))
    tidy(tmp_path)
    assert contents(tmp_path) == {"x/a": b"one", "x/sub/b": b"one"}


def test_what_is_written_can_be_read_by_whom_the_folder_lets(tmp_path):
    (tmp_path / "plain").mkdir()
    mode = (tmp_path / "plain").stat().st_mode
    with whole_folder(tmp_path / "x") as new:
        (new / "secret").touch(mode=0o600)
        (new / "sub").mkdir(mode=0o700)
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "x" / "sub").stat().st_mode == mode
    assert (tmp_path / "x" / "secret").stat().st_mode & 0o777 == mode & 0o666


# --- files


def test_a_file_is_written_and_replaced(tmp_path):
    write_file(tmp_path / "new" / "x", "하나")
    write_file(tmp_path / "new" / "x", b"two")
    assert contents(tmp_path) == {"new/x": b"two"}


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch, error):
    write_file(tmp_path / "x", "one")

    def fail(path):
        raise error

    monkeypatch.setattr(whole_files, "sync", fail)
    with pytest.raises(type(error)):
        write_file(tmp_path / "x", "two")
    assert contents(tmp_path) == {"x": b"one"}


def test_all_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced, fsync = set(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.add(os.fstat(descriptor).st_ino), fsync(descriptor)))
    write_file(tmp_path / "file", "x")
    write_folder(tmp_path / "folder", fill_with("one"))
    assert {path.stat().st_ino for path in [tmp_path, *tmp_path.rglob("*")]} <= synced


# --- what is left half done


def test_tidying_removes_leftovers_and_nothing_else(tmp_path):
    ours = (".x.trefoil-new", ".x.trefoil-old", ".step-1.trefoil-deleted", ".y.trefoil-old")
    others = ("x", ".x.old", ".x.writing", ".step-1.deleted", ".git", "x.trefoil-old")
    for name in (*ours, *others):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (tmp_path / ".log.jsonl.trefoil-new").write_text("half")
    tidy(tmp_path)
    assert contents(tmp_path) == {f"{name}/file": name.encode() for name in others} | {"y/file": b".y.trefoil-old"}
    tidy(tmp_path / "none")


def test_removing(tmp_path):
    write_folder(tmp_path / "x", fill_with("one"))
    write_file(tmp_path / "file", "one")
    (tmp_path / "link").symlink_to(tmp_path / "kept", target_is_directory=True)
    write_folder(tmp_path / "kept", fill_with("one"))
    for name in ("x", "file", "link", "none"):
        remove(tmp_path / name)
    assert contents(tmp_path) == {"kept/a": b"one", "kept/sub/b": b"one"}


def test_what_cannot_be_written_is_told_with_its_place_and_the_room_there(tmp_path):
    full = str(not_written(tmp_path / "x" / "y", OSError(28, "No space left on device"), "the old is kept"))
    assert re.fullmatch(
        rf"{tmp_path}/x/y: cannot be written \(No space left on device; \S+ GB are free there\); the old is kept", full
    )
    gone = str(not_written(tmp_path / "x", FileNotFoundError(2, "No such file or directory"), "the old is kept"))
    assert gone.endswith("; its folder was deleted or moved meanwhile")
