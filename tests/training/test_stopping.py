import os
import signal
import time
from multiprocessing import get_context

import pytest

from trefoil.training.stopping import heard, held_back, interrupting, set_apart

FORK = get_context("fork")


def lead_a_group(found, asked):
    """Start a process as data workers are started, and have the signal come for the whole group before it is set apart."""
    os.setpgid(0, 0)
    with heard(lambda number, frame: asked.set()):
        ready, signalled = FORK.Event(), FORK.Event()
        with held_back():
            worker = FORK.Process(target=work, args=(ready, signalled))
            worker.start()
            ready.wait(60)
            os.killpg(0, signal.SIGTERM)
            assert not asked.is_set()
        signalled.set()
        worker.join(60)
        os.killpg(0, signal.SIGTERM)
        found.put((asked.is_set(), worker.exitcode))


def work(ready, signalled):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ready.set()
    signalled.wait(60)
    set_apart()
    assert not signal.sigpending()
    assert os.getpgid(0) == os.getpid()


@pytest.mark.skipif(not hasattr(os, "setpgid"), reason="no groups of processes")
def test_a_signal_to_the_group_reaches_the_process_that_trains_and_not_what_it_has_just_started():
    found, asked = FORK.Queue(), FORK.Event()
    leader = FORK.Process(target=lead_a_group, args=(found, asked))
    leader.start()
    assert found.get(timeout=60) == (True, 0)
    leader.join(60)


def test_a_process_that_was_set_apart_can_be_ended():
    with held_back():
        worker = FORK.Process(target=lambda: (set_apart(), time.sleep(60)))
        worker.start()
    while os.getpgid(worker.pid) != worker.pid:
        time.sleep(0.01)
    worker.terminate()
    worker.join(60)
    assert worker.exitcode == -signal.SIGTERM


class AskedToStop:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)  # the handler runs here


def test_a_signal_in_a_destructor_is_not_lost():
    def work():
        AskedToStop()
        time.sleep(30)

    with pytest.raises(KeyboardInterrupt), interrupting():
        work()


def test_what_else_a_destructor_raises_is_told_as_ever(monkeypatch):
    told = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: told.append(unraisable.exc_type))

    class Broken:
        def __del__(self):
            raise ValueError

    with interrupting():
        Broken()
    assert told == [ValueError]
