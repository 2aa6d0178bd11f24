"""How the time of a training step grows with what it is made of, one thing at a time."""

import statistics

import numpy as np
import torch

import trefoil

from .contest import timed
from .train import causal_lm, stepper

BASE = {"length": 128, "width": 256, "layers": 4, "rows": 8}
VALUES = {
    "length": (64, 128, 256, 512, 1024), "width": (128, 256, 512, 768), "layers": (2, 4, 8, 16), "rows": (2, 4, 8, 16, 32),
}  # fmt: skip
VOCABULARY = 2048


def seconds_of(length: int, width: int, layers: int, rows: int, device: torch.device, steps: int = 3) -> float:
    """The median of some steps, after one."""
    config = trefoil.TrefoilDecoderConfig(
        vocab_size=VOCABULARY, hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64,
        intermediate_size=3 * width, max_position_embeddings=length,
    )  # fmt: skip
    step = stepper(trefoil.TrefoilDecoderForCausalLM(config).to(device), causal_lm(VOCABULARY, rows, length), device)
    step()
    return statistics.median(timed(step, rows * length, device).seconds for _ in range(steps))


def measure(device: torch.device) -> dict[str, tuple[dict[int, float], float]]:
    """For each of what a step is made of: the seconds by its values, and the exponent of a power law fitted to them."""
    found = {}
    for name, values in VALUES.items():
        seconds = {value: seconds_of(**BASE | {name: value}, device=device) for value in values}
        exponent, _ = np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)
        found[name] = (seconds, float(exponent))
    return found
