"""Recurrent layers: LSTM and GRU, one step after the other.

Shapes: B batch, T length, C width of the input, H width of the layer, P parts of its state (its output, and an LSTM's cell).
"""

from collections.abc import Callable

import torch
from torch import nn


def lstm_step(inputs: torch.Tensor, recurrent: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """`c' = f c + i g`, `h' = o tanh(c')`, with gates `i, f, o = σ(…)` and `g = tanh(…)`: Hochreiter & Schmidhuber 1997, with
    the forget gate of Gers et al. 2000.

    Args:
        inputs: `W x + b`, `(B, 4H)`; the gates in the order i, f, g, o.
        recurrent: `U h + b'`, `(B, 4H)`.
        state: h and c, `(B, 2, H)`.

    Returns:
        The next state `(B, 2, H)`.
    """
    into, forget, candidate, out = (inputs + recurrent).chunk(4, dim=-1)
    cell = forget.sigmoid() * state[:, 1] + into.sigmoid() * candidate.tanh()
    return torch.stack((out.sigmoid() * cell.tanh(), cell), dim=1)


def gru_step(inputs: torch.Tensor, recurrent: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """`h' = (1 - z) n + z h`, with gates `r, z = σ(…)` and `n = tanh(W x + r (U h))`: Cho et al. 2014, §2.3.

    Args:
        inputs: `W x + b`, `(B, 3H)`; in the order r, z, n.
        recurrent: `U h + b'`, `(B, 3H)`.
        state: h, `(B, 1, H)`.

    Returns:
        The next state `(B, 1, H)`.
    """
    reset, update, candidate = inputs.chunk(3, dim=-1)
    reset_part, update_part, candidate_part = recurrent.chunk(3, dim=-1)
    update = (update + update_part).sigmoid()
    candidate = (candidate + (reset + reset_part).sigmoid() * candidate_part).tanh()
    return ((1 - update) * candidate + update * state[:, 0])[:, None]


# the step, and how many gates it has
CELLS: dict[str, tuple[Callable, int]] = {"lstm": (lstm_step, 4), "gru": (gru_step, 3)}


class RecurrentDirection(nn.Module):
    """Reads a sequence from left to right, or from right to left.

    Args:
        input_size: C.
        hidden_size: H.
        cell_type: `lstm` or `gru`.
        backward: From right to left.
    """

    def __init__(self, input_size: int, hidden_size: int, cell_type: str, backward: bool = False) -> None:
        super().__init__()
        self.step, gates = CELLS[cell_type]
        self.backward = backward
        self.input_proj = nn.Linear(input_size, gates * hidden_size)
        self.hidden_proj = nn.Linear(hidden_size, gates * hidden_size)

    def forward(
        self, states: torch.Tensor, initial: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            states: `(B, T, C)`.
            initial: The state before the first step, `(B, P, H)`.
            mask: `(B, T)`, False for padding, at which the state stays what it was.

        Returns:
            The outputs `(B, T, H)` and the state after the last step `(B, P, H)`.
        """
        # of all steps at once; only what follows must wait for the step before. Unbound, as an indexed step's gradient would
        # be as long as the sequence
        inputs = self.input_proj(states).unbind(dim=1)
        state, outputs = initial, []
        steps = range(states.shape[1])
        for position in reversed(steps) if self.backward else steps:
            following = self.step(inputs[position], self.hidden_proj(state[:, 0]), state)
            state = following if mask is None else torch.where(mask[:, position, None, None], following, state)
            outputs.append(state[:, 0])
        return torch.stack(outputs[::-1] if self.backward else outputs, dim=1), state


class RecurrentLayer(nn.Module):
    """One layer, of one direction or of two with half the width each (Schuster & Paliwal 1997).

    Args:
        input_size: C.
        hidden_size: H, of both directions together.
        cell_type: `lstm` or `gru`.
        bidirectional: Whether to read from right to left, too.
    """

    def __init__(self, input_size: int, hidden_size: int, cell_type: str, bidirectional: bool) -> None:
        super().__init__()
        backward = (False, True) if bidirectional else (False,)
        self.directions = nn.ModuleList(
            RecurrentDirection(input_size, hidden_size // len(backward), cell_type, one) for one in backward
        )

    def forward(
        self, states: torch.Tensor, initial: torch.Tensor, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As in `RecurrentDirection`; the left half of each vector is what has read from the left."""
        parts = initial.chunk(len(self.directions), dim=-1)
        read = [direction(states, part, mask) for direction, part in zip(self.directions, parts, strict=True)]
        outputs, finals = zip(*read, strict=True)
        return torch.cat(outputs, dim=-1), torch.cat(finals, dim=-1)
