"""How many texts may wait or be worked on."""

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import ApiError


class Places:
    """Of one event loop.

    Attributes:
        taken: Of `count`.
    """

    def __init__(self, count: int) -> None:
        self.count, self.taken = count, 0

    @contextmanager
    def take(self, count: int) -> Iterator[None]:
        """
        Raises:
            ApiError: There are not so many; 400 where there never are.
        """
        if count > self.count:
            raise ApiError(400, f"{count:,} texts are asked for at once, but this server takes {self.count:,} at most")
        if self.taken + count > self.count:
            raise ApiError(503, f"too many texts wait already; {self.count:,} may: try again later", code="overloaded")
        self.taken += count
        try:
            yield
        finally:
            self.taken -= count
