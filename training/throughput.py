"""How fast training runs, and what share of the device's speed that is."""

import time

import torch
from accelerate import Accelerator
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
@torch.compiler.set_stance("force_eager")  # what compiled code calls is not counted
def training_flops_per_token(model: torch.nn.Module, batch: dict[str, torch.Tensor], tokens: int) -> float:
    """Floating-point operations of forward and backward for one of the `tokens` of a batch: the forward's, as many for the gradients
    of inputs, and as many for those of weights, but of layers that are not trained."""
    counter = FlopCounterMode(display=False)
    with counter:
        model(**batch)
    counts = counter.get_flop_counts()
    frozen = sum(
        sum(counts.get(f"{type(model).__name__}.{name}", {}).values())
        for name, layer in model.named_modules()
        if not any(weight.requires_grad for weight in layer.parameters()) and not [*layer.children()]
    )
    return (3.0 * counter.get_total_flops() - frozen) / tokens


class Meter:
    """Measures the share of the devices' speed that training uses (MFU; Chowdhery et al. 2023, appendix B)."""

    def __init__(self, accelerator: Accelerator, precision: str | None) -> None:
        self.accelerator, self.precision = accelerator, precision
        self.flops_per_token: float | None = None

    def mfu(
        self, model: torch.nn.Module, batch: dict[str, torch.Tensor], tokens: int, tokens_per_second: float
    ) -> float:
        """
        Args:
            batch, tokens: One of the step's and what it holds; the first one says what a token costs.
        """
        if self.flops_per_token is None:
            self.flops_per_token = training_flops_per_token(self.accelerator.unwrap_model(model), batch, tokens)
            # a share of bfloat16's speed for fp8 too, which may reach more
            dtypes = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.bfloat16}
            dtype = dtypes.get(self.precision or "no", torch.float32)
            self.speed = matmul_speed(self.accelerator.device, dtype) * self.accelerator.num_processes
        return tokens_per_second * self.flops_per_token / self.speed
