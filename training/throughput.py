"""How fast training runs, and what share of the device's speed that is."""

import time

import torch
from torch.utils.flop_counter import FlopCounterMode


def matmul_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large matrix product: what the device can do at best, measured."""
    size = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


@torch.no_grad()
def training_flops_per_token(model: torch.nn.Module, batch: dict[str, torch.Tensor], tokens: int) -> float:
    """Floating-point operations of forward and backward (twice the forward's) for one of the `tokens` of a batch."""
    counter = FlopCounterMode(display=False)
    with counter:
        model(**batch)
    return 3.0 * counter.get_total_flops() / tokens
