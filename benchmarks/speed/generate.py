"""Generation: both of a pair write the same tokens, under the same `generate`."""

from collections.abc import Iterator

import torch

from .contest import Contest, Run
from .models import pair
from .train import ids

PROMPT, NEW = 16, 64


def contest(peer: str, rows: int, beams: int, target: float) -> Contest:
    def make(device: torch.device) -> tuple[Run, Run, int]:
        ours, stock = pair(peer, device, vocab_size=8192)
        prompt = ids(8192, rows, PROMPT).to(device)

        def writer(model: torch.nn.Module) -> Run:
            options = {"max_new_tokens": NEW, "min_new_tokens": NEW, "num_beams": beams, "do_sample": False}
            return lambda: model.generate(prompt, attention_mask=torch.ones_like(prompt), **options)

        if not torch.equal(writer(ours)(), writer(stock)()):
            raise ValueError(f"{peer} and ours do not write the same")
        return writer(ours), writer(stock), rows * NEW

    how = "greedy" if beams == 1 else f"{beams} beams"
    return Contest(f"{how}, {rows} row{'s' if rows > 1 else ''}", peer, make, target)


def contests() -> Iterator[Contest]:
    for peer in ("Llama", "GPT2"):
        yield contest(peer, 1, 1, 1.15)
        yield contest(peer, 16, 1, 1.05)
    for rows in (1, 16):
        yield contest("Marian", rows, 1, 1.0)
        yield contest("Marian", rows, 4, 1.1)
