"""Our steps against PyTorch's layers, and against the equations by hand."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from trefoil.modeling.recurrence import RecurrentLayer, gru_step, lstm_step

TORCH = {"lstm": nn.LSTM, "gru": nn.GRU}


def same_layers(cell_type, bidirectional):
    """Ours and PyTorch's, with the same weights."""
    torch.manual_seed(0)
    ours = RecurrentLayer(6, 8, cell_type, bidirectional)
    theirs = TORCH[cell_type](6, 8 // len(ours.directions), batch_first=True, bidirectional=bidirectional)
    for direction, suffix in zip(ours.directions, ("", "_reverse"), strict=False):
        for part, name in ((direction.input_proj, "ih"), (direction.hidden_proj, "hh")):
            part.weight.data.copy_(getattr(theirs, f"weight_{name}_l0{suffix}"))
            part.bias.data.copy_(getattr(theirs, f"bias_{name}_l0{suffix}"))
    return ours, theirs


def finals_of(states, cell_type):
    """PyTorch's last states `(directions, B, H)` as ours, `(B, P, H)`."""
    parts = states if cell_type == "lstm" else (states,)
    return torch.stack([torch.cat(part.unbind(), dim=-1) for part in parts], dim=1)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell_type", TORCH)
def test_a_layer_computes_what_pytorch_s_does(cell_type, bidirectional):
    ours, theirs = same_layers(cell_type, bidirectional)
    inputs = torch.randn(3, 5, 6)
    outputs, finals = ours(inputs, torch.zeros(3, 2 if cell_type == "lstm" else 1, 8))
    expected, states = theirs(inputs)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(finals, finals_of(states, cell_type))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell_type", TORCH)
def test_padding_is_stepped_over(cell_type, bidirectional):
    ours, theirs = same_layers(cell_type, bidirectional)
    inputs, lengths = torch.randn(3, 5, 6), [5, 3, 1]
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    outputs, finals = ours(inputs, torch.zeros(3, 2 if cell_type == "lstm" else 1, 8), mask)
    packed, states = theirs(pack_padded_sequence(inputs, lengths, batch_first=True))
    expected = pad_packed_sequence(packed, batch_first=True)[0]
    torch.testing.assert_close(outputs[mask], expected[mask])
    torch.testing.assert_close(finals, finals_of(states, cell_type))


@pytest.mark.parametrize("cell_type", TORCH)
def test_a_layer_goes_on_where_it_stopped(cell_type):
    layer, _ = same_layers(cell_type, False)
    inputs, state = torch.randn(2, 6, 6), torch.zeros(2, 2 if cell_type == "lstm" else 1, 8)
    whole, final = layer(inputs, state)
    first, state = layer(inputs[:, :4], state)
    second, state = layer(inputs[:, 4:], state)
    torch.testing.assert_close(torch.cat((first, second), dim=1), whole)
    torch.testing.assert_close(state, final)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_an_lstm_step_by_hand():
    gates = torch.tensor([[0.1, 0.2, 0.3, 0.4]])  # i, f, g, o
    state = lstm_step(gates, torch.zeros(1, 4), torch.tensor([[[0.5], [0.7]]]))
    cell = sigmoid(0.2) * 0.7 + sigmoid(0.1) * math.tanh(0.3)
    assert state[0, :, 0].tolist() == pytest.approx([sigmoid(0.4) * math.tanh(cell), cell])


def test_a_gru_step_by_hand():
    inputs, recurrent = torch.tensor([[0.1, 0.2, 0.3]]), torch.tensor([[0.4, 0.5, 0.6]])  # r, z, n
    state = gru_step(inputs, recurrent, torch.tensor([[[0.9]]]))
    update = sigmoid(0.2 + 0.5)
    candidate = math.tanh(0.3 + sigmoid(0.1 + 0.4) * 0.6)
    assert state.item() == pytest.approx((1 - update) * candidate + update * 0.9)
