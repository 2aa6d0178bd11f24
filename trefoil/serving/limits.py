"""What a server takes at most."""

from dataclasses import dataclass

MEGABYTE = 2**20


@dataclass(frozen=True)
class Limits:
    """
    Attributes:
        body: Bytes of a request.
        body_seconds: That a request may take to arrive.
        seconds: From its arrival to the last byte of its answer.
        places: Texts that wait or are worked on, of all requests together.
        requests: At a time, those whose body still arrives included.
        rows: Texts of which the model takes a step together.
        tokens: Of such a step, padding included; one text in any case.
    """

    body: int = MEGABYTE
    body_seconds: float = 10.0
    seconds: float = 60.0
    places: int = 256
    requests: int = 512
    rows: int = 32
    tokens: int = 2048
