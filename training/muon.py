"""Muon (Jordan et al. 2024): the update of a matrix is the orthogonal matrix that is nearest to its momentum."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

from .precision import fastest

# Amsel et al. 2025 (Polar Express), theorem 3.1: each is the odd polynomial that brings the singular values which those before it left
# nearest to one; values from 0.003 on come within 0.22 of it. Jordan et al.'s one polynomial takes five steps for as much.
# Beyond the values that it is for, each grows steeply, and the rounding of bfloat16 would make billions of a matrix of rank one; so all
# but the last are for values larger by a hundredth, as there
POLYNOMIALS = (
    *(
        (a / 1.01, b / 1.01**3, c / 1.01**5)
        for a, b, c in (
            (8.3837, -24.7659, 18.3571),
            (4.0434, -3.0114, 0.5695),
            (3.5056, -2.6267, 0.5257),
        )
    ),
    (2.4901, -1.8343, 0.4368),
)


class Muon(torch.optim.Muon):
    """torch's, but with the update of matrices of one size as one product for all, by four polynomials instead of five times
    the same, and in bfloat16 only on a device that has instructions for it: without them, torch's takes most of the time of a step.

    The root mean square of an update is that of AdamW's, so both take the same learning rate (Liu et al. 2025, §2.2).
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights: list[torch.Tensor] = []
            gradients: list[torch.Tensor] = []
            momenta: list[torch.Tensor] = []
            self._init_group(group, weights, gradients, momenta)
            if not weights:
                continue
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            updates = torch._foreach_lerp(gradients, momenta, group["momentum"])  # Nesterov's
            alike = defaultdict(list)
            for weight, update in zip(weights, updates, strict=True):
                alike[tuple(sorted(weight.shape))].append((weight, update))
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            for (_, longer), pairs in alike.items():
                wide = [update if weight.shape[1] == longer else update.mT for weight, update in pairs]
                for (weight, _), update in zip(pairs, orthogonal(torch.stack(wide)), strict=True):
                    update = update if weight.shape[1] == longer else update.mT
                    weight.add_(update, alpha=-group["lr"] * 0.2 * longer**0.5)
        return loss


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """`(N, rows, columns)`, no more rows than columns, with all singular values brought near one, by iterations of Newton and
    Schulz's kind: `X <- a X + (b X X^T + c (X X^T)^2) X`."""
    found = matrices.to(torch.bfloat16 if fastest() == "bf16" else torch.float32)
    found = found / found.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for a, b, c in POLYNOMIALS:
        gram = found @ found.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        found = torch.baddbmm(found, polynomial, found, beta=a)
    return found.to(matrices.dtype)
