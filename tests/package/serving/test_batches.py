"""Which jobs are done together, and that a thread does them."""

import threading
from dataclasses import dataclass

from trefoil.serving.batches import Worker, choose


@dataclass(eq=False)
class Asked:
    tokens: int
    key: str = "a"
    gone: bool = False


def test_the_oldest_goes_with_those_of_like_length_that_are_asked_alike():
    waiting = [Asked(10), Asked(90), Asked(12), Asked(11, "b"), Asked(9), Asked(30), Asked(10)]
    first, _, third, _, fifth, _, last = waiting
    assert choose(waiting, 3, 1000) == [first, last, fifth]
    assert choose(waiting, 8, 48) == [first, last, fifth, third]
    assert choose(waiting, 8, 47) == [first, last, fifth]
    assert choose(waiting, 8, 1) == [first]
    assert choose([Asked(10, "b"), *waiting], 8, 1000)[1:] == [waiting[3]]


def test_what_comes_while_others_are_worked_on_is_done_together():
    begun, goes_on, done = threading.Event(), threading.Event(), []

    def work(batch):
        done.append([job.tokens for job in batch])
        begun.set()
        assert goes_on.wait(10)

    worker = Worker(work, 8, 1000)
    worker.start()
    worker.add([Asked(1)])
    assert begun.wait(10)
    worker.add([Asked(2)])
    left = Asked(4)
    worker.add([Asked(3), left])
    left.gone = True
    goes_on.set()
    while len(done) < 2:
        begun.wait(0.01)
    worker.stop(10)
    assert done == [[1], [2, 3]]
    assert not worker.thread.is_alive()
