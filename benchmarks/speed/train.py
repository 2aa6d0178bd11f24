"""Steps of training, on rows without padding and with the same optimiser."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from . import libraries
from .contest import Contest, Run
from .models import Shape, pair

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


def stepper(model: torch.nn.Module, batch: Batch, device: torch.device, is_compiled: bool = False) -> Run:
    """A function that takes one step."""
    model.train()
    batch = {name: value.to(device) for name, value in batch.items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    if is_compiled:
        model.compile()

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


BATCHES = {"masked-LM": masked_lm, "causal-LM": causal_lm, "text-to-text": text_to_text}


def contest(kind: str, peer: str, vocab_size: int = 8192, target: float = 1.0) -> Contest:
    """Against a stock model that ours is imported from, or a model of another library."""

    def make(device: torch.device) -> tuple[Run, Run, int]:
        batch = BATCHES[kind](vocab_size, ROWS, LENGTH)
        if peer in libraries.PEERS:
            ours, theirs = libraries.pair(peer, kind, device, vocab_size)
        else:
            ours, theirs = pair(peer, device, vocab_size)
        return stepper(ours, batch, device), stepper(theirs, batch, device), batch["input_ids"].numel()

    return Contest(f"{kind} step, {vocab_size // 1024}k words", peer, make, target)


# --- of the sizes that are trained on GPUs


@dataclass(frozen=True)
class Size:
    """A model of a size that is known, and what a step of it reads."""

    kind: str
    peer: str
    shape: Shape
    vocab_size: int
    rows: int
    length: int


GPT2_124M = Shape(width=768, layers=12, heads=12, positions=1024)
SIZES = {
    "GPT-2 124M": Size("causal-LM", "GPT2", GPT2_124M, 50304, 16, 1024),
    # gated by three matrices, which hold as many numbers as GPT-2's two
    "Llama 124M": Size("causal-LM", "Llama", replace(GPT2_124M, intermediate=2048), 50304, 16, 1024),
    "BERT-base": Size("masked-LM", "Bert", Shape(width=768, layers=12, heads=12), 30522, 32, 512),
    "Transformer-base": Size("text-to-text", "Marian", Shape(width=512, layers=6, heads=8), 37000, 128, 128),
    "1B decoder": Size("causal-LM", "Llama", Shape(2048, 16, 32, positions=2048, intermediate=8192), 32000, 4, 2048),
}
COMPILED = ("GPT-2 124M", "Llama 124M")  # with torch.compile too


def contest_of_size(name: str, is_compiled: bool = False) -> Contest:
    def make(device: torch.device) -> tuple[Run, Run, int]:
        size = SIZES[name]
        batch = BATCHES[size.kind](size.vocab_size, size.rows, size.length)
        ours, stock = (
            stepper(model, batch, device, is_compiled) for model in pair(size.peer, device, size.vocab_size, size.shape)
        )
        return ours, stock, batch["input_ids"].numel()

    how = ", both by torch.compile" if is_compiled else ""
    return Contest(f"{SIZES[name].kind} step, {name}{how}", SIZES[name].peer, make, 1.0, is_compiled)


def contests(device: torch.device) -> Iterator[Contest]:
    yield contest("masked-LM", "Bert", target=1.4)
    yield contest("masked-LM", "ModernBert", target=1.05)
    for vocab_size, target in ((8192, 1.0), (32768, 1.15), (131072, 1.15)):
        yield contest("causal-LM", "Llama", vocab_size, target)
    yield contest("causal-LM", "GPT2")
    for peer in ("Marian", "Bart", "T5"):
        yield contest("text-to-text", peer)
    for peer in libraries.PEERS:
        if libraries.is_installed(peer):
            for kind in BATCHES:
                yield contest(kind, peer)
        else:
            print(f"{peer} is not installed, and its contests are left out", file=sys.stderr)
    if device.type == "cuda":
        for name in SIZES:
            yield contest_of_size(name)
        for name in COMPILED:
            yield contest_of_size(name, is_compiled=True)
