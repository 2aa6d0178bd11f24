"""A key/value cache with room for the tokens to come, so that each does not copy all before it."""

import torch
from transformers.cache_utils import Cache, DynamicLayer, EncoderDecoderCache

SMALL = 2**17  # numbers, which are copied before a place among them is found


class GrowingLayer(DynamicLayer):
    """A layer's keys and values, `(B, G, S, D)` each: on a processor the beginnings of tensors that are half as long again.

    Attributes:
        rooms: Those tensors, of keys and of values.
        spares: Tensors of the same shapes, which beams are put in order into.
    """

    rooms: list[torch.Tensor] | None = None
    spares: list[torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As of `DynamicLayer`; where there are gradients, what was there before stays as it is."""
        copies = torch.is_grad_enabled() or torch.compiler.is_compiling() or key_states.device.type != "cpu"
        if copies or not self.is_initialized or self.keys.numel() < SMALL:
            return super().update(key_states, value_states, *args, **kwargs)
        length = self.keys.shape[-2] + key_states.shape[-2]
        if not self._have_room(length):
            self.rooms, self.spares = [_with_room(states, length) for states in (self.keys, self.values)], None
        for room, states in zip(self.rooms, (key_states, value_states), strict=True):  # type: ignore[arg-type]
            room[..., length - states.shape[-2] : length, :] = states
        self._take(length)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """As of `DynamicLayer`."""
        length = self.get_seq_length()
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or not length or not self._have_room(length):
            return super().reorder_cache(beam_idx)
        if self.spares is None:
            self.spares = [torch.empty_like(room) for room in self.rooms]  # type: ignore[union-attr]
        for spare, states in zip(self.spares, (self.keys, self.values), strict=True):
            torch.index_select(states, 0, beam_idx.to(states.device), out=spare[..., :length, :])
        self.rooms, self.spares = self.spares, self.rooms
        self._take(length)

    def crop(self, tokens_to_remove: int) -> None:
        """As of `DynamicLayer`; who holds what was there before goes on holding it."""
        super().crop(tokens_to_remove)
        self.rooms = self.spares = None

    def batch_repeat_interleave(self, repeats: int) -> None:
        """As of `DynamicLayer`."""
        super().batch_repeat_interleave(repeats)
        self.rooms = self.spares = None

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """As of `DynamicLayer`."""
        super().batch_select_indices(indices)
        self.rooms = self.spares = None

    def reset(self) -> None:
        """As of `DynamicLayer`."""
        super().reset()
        self.rooms = self.spares = None

    def _have_room(self, length: int) -> bool:
        """Whether keys and values still lie in the rooms, and so many tokens have a place there."""
        return self.rooms is not None and all(
            room.shape[-2] >= length
            and (torch.is_inference_mode_enabled() or not room.is_inference())
            and room.shape[0] == states.shape[0]
            and (room.data_ptr(), room.stride()) == (states.data_ptr(), states.stride())
            for room, states in zip(self.rooms, (self.keys, self.values), strict=True)
        )

    def _take(self, length: int) -> None:
        self.keys, self.values = (room[..., :length, :] for room in self.rooms)  # type: ignore[union-attr]


def _with_room(states: torch.Tensor, length: int) -> torch.Tensor:
    """`states (B, G, S, D)` in a tensor with a place for `length` tokens and half as many."""
    room = states.new_empty(*states.shape[:2], length + length // 2, states.shape[-1])
    room[..., : states.shape[-2], :] = states
    return room


def let_grow(cache: Cache | None) -> None:
    """Give a cache that is still empty layers that grow so, where its layers grow."""
    own = cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache
    if own is not None and not any(layer.is_initialized for layer in own.layers):
        own.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in own.layers]
