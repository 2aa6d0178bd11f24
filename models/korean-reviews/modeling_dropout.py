"""Dropout (Srivastava et al. 2014), with cheap random numbers on a processor."""

import torch
from torch import nn

LEVELS = 2**16  # of a probability: what 16 bits can hold


def drop(states: torch.Tensor, p: float) -> torch.Tensor:
    """Zero each number with probability `p`, and scale the others so that the mean stays; shape and dtype as they are.

    Drawing is most of the work on a processor, where torch draws 64 bits a number. Here it is 16: `p` is rounded to a multiple
    of 1/65,536, and the scale is that of the rounded one.

    Raises:
        ValueError: `p` is no probability.
    """
    dropped = round(p * LEVELS)
    if (
        not 0 < dropped < LEVELS
        or states.device.type != "cpu"
        or type(states) is not torch.Tensor  # distributed, traced
        or torch.compiler.is_compiling()
    ):
        return nn.functional.dropout(states, p)
    words = states.new_empty(-(-states.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    numbers = words.view(torch.int16)[: states.numel()].view(states.shape)
    kept = numbers.ge_(dropped - LEVELS // 2).to(states.dtype)
    return states * kept.mul_(LEVELS / (LEVELS - dropped))


class Dropout(nn.Dropout):
    """torch's, by `drop`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.inplace or not self.training:
            return super().forward(input)
        return drop(input, self.p)
