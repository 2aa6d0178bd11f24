"""A base that is not trained, in few bits: eight to a weight, or four, as QLoRA does (Dettmers et al. 2023); packed by torchao."""

import importlib.util
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from ..configuration.errors import UserError

BLOCK = 64  # weights of nf4 that share a scale
SCALES = 256  # of such blocks that share one themselves, at most


def require_torchao(load_in: str) -> None:
    """Raises a UserError where torchao is not installed."""
    if importlib.util.find_spec("torchao") is None:
        raise UserError(f"adapter.load_in={load_in!r} needs torchao: pip install torchao")


def pack_layers(model: nn.Module, names: Iterable[str], load_in: str) -> None:
    """Put a `PackedLinear` in the place of each of these linear layers, and keep nothing of what they were.

    Args:
        load_in: `int8` or `nf4`.

    Raises:
        UserError: A weight is not made of whole blocks.
    """
    packed = set()
    for name in names:
        layer: Any = model.get_submodule(name)
        if load_in == "nf4" and layer.weight.numel() % BLOCK:
            raise UserError(
                f"adapter.load_in='nf4': {name}.weight has {layer.weight.numel():,} numbers, which is no multiple of "
                f"{BLOCK}; use int8"
            )
        model.set_submodule(name, PackedLinear(layer, load_in))
        packed.add(id(model.get_submodule(name).weight))
    for weight in model.parameters():
        if id(weight) not in packed:  # else it would keep the whole file mapped that it was read from
            weight.data = weight.data.clone()


def leave_to_each_process(model: nn.Module) -> None:
    """Keep DDP from sending packed weights, which it cannot, and which are the same in every process, since each packs them."""
    packed = [f"{name}.weight" for name, module in model.named_modules() if isinstance(module, PackedLinear)]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, packed)


class PackedLinear(nn.Linear):
    """A linear layer `(*, in) -> (*, out)` whose weight is packed, and unpacked whenever it is used.

    torchao's own product with eight bits keeps the unpacked weight of every layer until the backward pass, so that nothing
    would be saved in training; this one unpacks it again.
    """

    def __init__(self, layer: nn.Linear, load_in: str) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        self.weight = nn.Parameter(_packed(layer.weight.detach(), load_in), requires_grad=False)
        self.bias = layer.bias

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return _Product.apply(input, self.weight, self.bias)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(weight)
        return functional.linear(states, _unpacked(weight).to(states.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (weight,), (gradient,) = ctx.saved_tensors, gradients
        return gradient @ _unpacked(weight).to(gradient.dtype), None, None


def _packed(weight: torch.Tensor, load_in: str) -> torch.Tensor:
    from torchao.quantization import Int8Tensor, PerRow, to_nf4

    if load_in == "int8":
        return Int8Tensor.from_hp(weight, PerRow())
    return to_nf4(weight, BLOCK, math.gcd(SCALES, weight.numel() // BLOCK))


def _unpacked(weight: Any) -> torch.Tensor:
    from torchao.quantization import NF4Tensor

    return weight.get_original_weight() if isinstance(weight, NF4Tensor) else weight.dequantize()
