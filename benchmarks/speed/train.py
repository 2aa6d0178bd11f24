"""Steps of training, on rows without padding and with the same optimiser."""

from collections.abc import Callable, Iterator

import torch

from .contest import Contest, Run
from .models import pair

ROWS, LENGTH = 16, 64
Batch = dict[str, torch.Tensor]


def ids(vocab_size: int, rows: int, length: int) -> torch.Tensor:
    return torch.randint(3, vocab_size, (rows, length), generator=torch.Generator().manual_seed(0))


def causal_lm(vocab_size: int, rows: int, length: int) -> Batch:
    tokens = ids(vocab_size, rows, length)
    return {"input_ids": tokens, "labels": tokens}


def masked_lm(vocab_size: int, rows: int, length: int) -> Batch:
    """15 % of tokens are to be predicted."""
    tokens = ids(vocab_size, rows, length)
    masked = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(1)) < 0.15
    return {"input_ids": tokens.masked_fill(masked, 1), "labels": tokens.masked_fill(~masked, -100)}


def text_to_text(vocab_size: int, rows: int, length: int) -> Batch:
    tokens = ids(vocab_size, rows, length)
    return {"input_ids": tokens, "labels": tokens.flip(1)}


def stepper(model: torch.nn.Module, batch: Batch, device: torch.device) -> Run:
    """A function that takes one step."""
    model.train()
    batch = {name: value.to(device) for name, value in batch.items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def contest(
    work: str,
    peer: str,
    make_batch: Callable[[int, int, int], Batch],
    vocab_size: int = 8192,
    target: float = 1.0,
) -> Contest:
    def make(device: torch.device) -> tuple[Run, Run, int]:
        batch = make_batch(vocab_size, ROWS, LENGTH)
        ours, stock = pair(peer, device, vocab_size)
        return stepper(ours, batch, device), stepper(stock, batch, device), batch["input_ids"].numel()

    return Contest(f"{work} step, {vocab_size // 1024}k words", peer, make, target)


def contests() -> Iterator[Contest]:
    yield contest("masked-LM", "Bert", masked_lm, target=1.4)
    yield contest("masked-LM", "ModernBert", masked_lm, target=1.05)
    for vocab_size, target in ((8192, 1.0), (32768, 1.15), (131072, 1.15)):
        yield contest("causal-LM", "Llama", causal_lm, vocab_size, target)
    yield contest("causal-LM", "GPT2", causal_lm)
    for peer in ("Marian", "Bart", "T5"):
        yield contest("text-to-text", peer, text_to_text)
