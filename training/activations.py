"""Gradient checkpointing by a budget (Chen et al. 2016): layers keep what they compute for the backward pass as far as it fits,
and the others compute it again. What a batch keeps is measured, on the largest ones, by the kernels that training uses.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils import _pytree as pytree

from ..data.batching import Share, StepDataset, plan_epoch
from ..data.encoded import Examples
from ..data.progress import say
from ..tasks.preprocessor import Preprocessor
from .engine import Engine, local
from .models import checkpointed_layers

GB = 10**9

Storages = dict[StorageWeakRef, int]  # bytes; a reference keeps a place in memory from passing for another one


def recompute_within(
    budget: float, engine: Engine, preprocessor: Preprocessor, examples: Examples, share: Share
) -> None:
    """Let as few layers compute again as the budget allows, or all.

    Args:
        budget: GB of activations that a process keeps for the backward pass of one batch.
        engine: Has laid out the model, for which gradient checkpointing is enabled.
        examples: What is trained on; of a stream, its start.
        share: Of each step. Every process measures the same batches, and all take the first one's choice.
    """
    model, device = engine.bare, engine.accelerator.device
    layers = checkpointed_layers(model)
    for layer in layers:
        layer.gradient_checkpointing = False
    measured = []
    random_devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(random_devices), torch.compiler.set_stance("force_eager"):
        for batch in largest_batches(preprocessor, examples, share):
            there = {name: tensor.to(device) for name, tensor in batch.items()}
            with engine.share_of(there, is_last=False) as mine:
                measured.append(Activations.of(model.train(), layers, mine))
    kept = [max(one.bytes(spread(count, len(layers))) for one in measured) for count in range(len(layers) + 1)]
    fitting = [count for count, size in enumerate(kept) if size <= budget * GB]
    choice = [min(fitting, default=len(layers))]
    broadcast_object_list(choice)
    (count,) = choice
    for number in spread(count, len(layers)):
        layers[number].gradient_checkpointing = True
    if not engine.accelerator.is_main_process:
        return
    if fitting:
        say(
            f"layers that compute again: {count} of {len(layers)}; the largest batch keeps {kept[count] / GB:.3g} GB of "
            f"training.gradient_checkpointing={budget:g}"
        )
    else:
        say(
            f"training.gradient_checkpointing={budget:g} GB is too little: with all {len(layers)} layers computing again, the largest "
            f"batch keeps {kept[-1] / GB:.3g} GB; a smaller batches.tokens_per_device keeps less"
        )


def spread(count: int, layers: int) -> set[int]:
    """So many of the layers, evenly over the depth; the last comes last, as the backward pass begins with it."""
    return {number * layers // count for number in range(count)}


def largest_batches(preprocessor: Preprocessor, examples: Examples, share: Share) -> list[dict[str, torch.Tensor]]:
    """What one process computes at once, in the first epoch: the batches with the most tokens and with the longest rows, of
    each side and of all, with and without padding."""
    recipe = preprocessor.recipe
    tokens_per_batch, parts = recipe.batches.tokens_per_batch, share.world_size * share.accumulation
    if recipe.data.streaming:  # whose readers plan for themselves
        tokens_per_batch, parts = max(1, tokens_per_batch // parts), 1
    lengths = preprocessor.lengths(examples)

    def sizes(batches: list[np.ndarray]) -> np.ndarray:
        """`(batches, what is measured)`"""
        longest = np.array([lengths[batch].max(axis=0) for batch in batches])
        padded = longest * np.array([[len(batch)] for batch in batches])
        read = np.array([lengths[batch].sum(axis=0) for batch in batches])
        return np.column_stack(
            [longest, padded, read, padded.sum(axis=1), read.sum(axis=1)],
        )

    plan = plan_epoch(lengths, tokens_per_batch, recipe.seed, 0)
    steps = [plan[number] for number in sorted(set(sizes(plan).argmax(axis=0).tolist()))]
    batches = [part for step in steps for number in range(parts) if len(part := step[number::parts])]
    chosen = [batches[number] for number in sorted(set(sizes(batches).argmax(axis=0).tolist()))]
    return [collated for (collated,) in StepDataset(preprocessor, examples, chosen, Share(), epoch=0)]


class Activations:
    """What a forward pass leaves for the backward pass, each storage once, without weights.

    Attributes:
        inputs, saved: By layer: what it is given, and what it keeps if it does not compute it again.
        elsewhere: What is kept outside of layers.
    """

    def __init__(self, layers: int) -> None:
        self.inputs: list[Storages] = [{} for _ in range(layers)]
        self.saved: list[Storages] = [{} for _ in range(layers)]
        self.elsewhere: Storages = {}
        self.weights: Storages = {}

    @classmethod
    def of(cls, model: nn.Module, layers: list[nn.Module], batch: dict[str, Any]) -> "Activations":
        """Those of a batch, of which nothing is held while they are counted."""
        found = cls(len(layers))
        with found._counting(layers), torch.enable_grad():
            model(**batch)
        return found

    def bytes(self, recomputed: set[int]) -> int:
        """All that is kept where these layers compute again: of them, what they are given."""
        kept = dict(self.elsewhere)
        for number, (inputs, saved) in enumerate(zip(self.inputs, self.saved, strict=True)):
            kept |= inputs if number in recomputed else saved
        return sum(size for storage, size in kept.items() if storage not in self.weights)

    @contextmanager
    def _counting(self, layers: list[nn.Module]) -> Iterator[None]:
        place = self.elsewhere  # where what is saved now belongs

        def pack(tensor: torch.Tensor) -> None:
            place.update(_storages([tensor]))

        def unpack(nothing: None) -> torch.Tensor:
            raise RuntimeError("what was counted was not kept")

        def note_weights(module: nn.Module, arguments: tuple) -> None:
            # some engines put weights together just before they are used
            self.weights |= _storages(module.parameters(recurse=False))

        with ExitStack() as entered:
            entered.enter_context(register_module_forward_pre_hook(note_weights))
            for number, layer in enumerate(layers):

                def enter(module: nn.Module, arguments: tuple, options: dict[str, Any], number: int = number) -> None:
                    nonlocal place
                    place = self.saved[number]
                    self.inputs[number] |= _storages(pytree.tree_leaves((arguments, options)))

                def leave(module: nn.Module, arguments: tuple, output: Any) -> None:
                    nonlocal place
                    place = self.elsewhere

                entered.enter_context(layer.register_forward_pre_hook(enter, with_kwargs=True))
                entered.enter_context(layer.register_forward_hook(leave))
            entered.enter_context(saved_tensors_hooks(pack, unpack))
            yield


def _storages(values: Iterable[Any]) -> Storages:
    tensors = (local(value) for value in values if isinstance(value, torch.Tensor))
    storages = (tensor.untyped_storage() for tensor in tensors)
    return {StorageWeakRef(storage): storage.nbytes() for storage in storages}
