"""The projection onto the vocabulary, and losses of it that never hold the logits of all positions at once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from .modeling_base import TrefoilPreTrainedModel, select_positions
from .modeling_cache import let_grow
from .modeling_losses import labelled, linear_cross_entropy, next_labels, token_cross_entropy
from .modeling_scores import soft_cap
from .modeling_unpadding import Unread

MOST_COPIED = 2**26  # numbers of a weight: a quarter of a gigabyte


class VocabularyProjection(nn.Linear):
    """Logits of hidden states; with labels, `linear_cross_entropy` of them. Both by `forward`, where engines that split a
    model hang the gathering of its weight.

    Attributes:
        columns: `(C, vocab_size)`, the weight for products with few rows, while it does not change.
    """

    columns: torch.Tensor | None = None

    @contextmanager
    def for_few_rows(self) -> Iterator[None]:
        """Within, the weight does not change, and a processor reads it in the order in which one row wants it: a copy, which
        takes as long as a token or two, and is read in half the time."""
        weight = self.weight
        if (
            type(weight) is nn.Parameter
            and weight.device.type == "cpu"
            and weight.dtype == torch.float32
            and weight.numel() <= MOST_COPIED
            and not torch.is_autocast_enabled("cpu")
        ):
            self.columns = weight.detach().T.contiguous()
        try:
            yield
        finally:
            self.columns = None

    def forward(self, input: torch.Tensor, labels: torch.Tensor | None = None, **options: Any) -> torch.Tensor:
        """`(..., C)` to `(..., vocab_size)`; with `labels (...)`, to the loss, whose `options` these are."""
        if labels is not None:
            return linear_cross_entropy(input, self.weight, self.bias, labels, **options)
        if self.columns is None or input.dtype != self.columns.dtype:
            return super().forward(input)
        logits = input @ self.columns
        return logits if self.bias is None else logits + self.bias


class LateLogits(torch.Tensor):
    """Logits that are computed when something reads more of them than shape, dtype and device.

    Args:
        compute: Makes the logits.
        version: Counts the changes of the weights that they are made of.
        shape, dtype, device: What they will be.
    """

    _METADATA = {
        *(
            getattr(torch.Tensor, name).__get__
            for name in (
                "shape", "dtype", "device", "ndim", "layout", "requires_grad", "grad_fn", "is_leaf", "is_cuda",
            )
        ),
        *(torch.Tensor.size, torch.Tensor.dim, torch.Tensor.numel, torch.Tensor.__len__, torch.Tensor.get_device),
        *(torch.Tensor.is_floating_point, torch.is_floating_point, torch.Tensor.is_complex, torch.is_complex),
    }  # fmt: skip

    _compute: Callable[[], torch.Tensor]
    _version_of_weights: Callable[[], int]
    _made_at: int
    _wholes: dict[bool, torch.Tensor]  # by whether they have gradients; what is written into them stays

    @staticmethod
    def __new__(
        cls,
        compute: Callable[[], torch.Tensor],
        version: Callable[[], int],
        shape: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device,
    ) -> "LateLogits":
        late = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=dtype, device=device)
        late._compute, late._version_of_weights, late._made_at = compute, version, version()
        late._wholes = {}
        return late

    def whole(self) -> torch.Tensor:
        """
        Raises:
            RuntimeError: The weights have changed since.
        """
        with torch._C.DisableTorchFunctionSubclass():
            with_gradients = torch.is_grad_enabled()
            if with_gradients not in self._wholes:
                if self._version_of_weights() != self._made_at:
                    raise RuntimeError(
                        "these logits were left out of the loss's computation, and the model's weights have changed since; "
                        "read them before the optimiser's step"
                    )
                self._wholes[with_gradients] = self._compute()
            return self._wholes[with_gradients]

    @classmethod
    def __torch_function__(cls, func: Callable, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in cls._METADATA:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        # as engines ask of every output in half precision
        dtype = (
            torch.float32 if func is torch.Tensor.float else args[1] if func is torch.Tensor.to and args[1:] else None
        )
        if isinstance(dtype, torch.dtype) and isinstance(late := args[0], cls):
            return cls(lambda: late.whole().to(dtype), late._version_of_weights, tuple(late.shape), dtype, late.device)
        args, kwargs = pytree.tree_map_only(cls, cls.whole, (args, kwargs or {}))
        return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Callable, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        args, kwargs = pytree.tree_map_only(cls, cls.whole, (args, kwargs or {}))
        return func(*args, **kwargs)


class LanguageModelHead(TrefoilPreTrainedModel):
    """A base model with a projection onto the vocabulary, `lm_head`.

    Attributes:
        default_loss: The loss, where nobody sets another `loss_function`.
        predicts_next: Whether a position's label is the next token, so that labels are shifted.
        lm_head_scale: Factor on what enters the projection.
        logit_softcap: `soft_cap` of what leaves it.
    """

    _tp_plan = {"lm_head": "colwise_gather_output"}
    _pp_plan = {"lm_head": (["hidden_states"], ["logits"])}
    _fsdp_plan = {"lm_head": "keep_full_weight"}

    lm_head: VocabularyProjection
    default_loss: Callable = staticmethod(token_cross_entropy)
    predicts_next = False
    lm_head_scale = 1.0
    logit_softcap: float | None = None

    def before_projection(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """What enters the projection."""
        return hidden_states if self.lm_head_scale == 1.0 else hidden_states * self.lm_head_scale

    def project(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(..., C)` to logits `(..., vocab_size)`."""
        return soft_cap(self.lm_head(self.before_projection(hidden_states)), self.logit_softcap)

    def unread(
        self,
        labels: torch.Tensor | None,
        attention_mask: torch.Tensor | dict | None,
        shift_labels: torch.Tensor | None = None,
        ignore_index: int = -100,
        **options: Any,
    ) -> Unread | None:
        """Padding `(B, T)` that no label's loss reads, where there are `labels (B, T)`."""
        if labels is None or not self.training:
            return None
        labels = next_labels(labels, shift_labels, ignore_index) if self.predicts_next else labels
        read = labelled(labels, ignore_index)
        return Unread(self.mask_of_labels(attention_mask, read), read)

    def mask_of_labels(
        self, attention_mask: torch.Tensor | dict | None, read: torch.Tensor
    ) -> torch.Tensor | dict | None:
        """The mask `(B, T)` that tells what is padding, given which tokens `(B, T)` have a label."""
        return attention_mask

    def predict(
        self,
        hidden_states: torch.Tensor,
        labels: torch.Tensor | None,
        logits_to_keep: int | torch.Tensor = 0,
        **options: Any,
    ) -> tuple[torch.Tensor | None, torch.Tensor]:
        """The loss of `labels (B, T)`, if given, and the logits.

        Where nothing but the labels' loss is asked for, only positions that have one are projected, some at a time, and
        the logits `(B, T, vocab_size)` are computed if they are read.

        Args:
            hidden_states: `(B, T, C)`.
            logits_to_keep: `select_positions` of hidden states.
            options: The loss's.
        """
        if labels is None or not self._projects_late(logits_to_keep):
            logits = self.project(select_positions(hidden_states, logits_to_keep))
            if labels is None:
                return None, logits
            return self.loss_function(
                logits=logits, labels=labels, vocab_size=self.lm_head.out_features, **options
            ), logits
        ignore_index = options.pop("ignore_index", -100)
        if self.predicts_next:
            labels = next_labels(labels, options.pop("shift_labels", None), ignore_index)
        labels = labels.to(hidden_states.device)
        counted = labelled(labels, ignore_index)
        loss = self.lm_head(
            self.before_projection(hidden_states[counted]),
            labels=labels[counted],
            softcap=self.logit_softcap,
            **options,
        )
        return loss, self._late(hidden_states)

    def _projects_late(self, logits_to_keep: int | torch.Tensor) -> bool:
        return (
            isinstance(logits_to_keep, int)
            and logits_to_keep == 0
            # outside of training, gradients of the loss may be asked for by the logits
            and (self.training or not torch.is_grad_enabled())
            and self.loss_function is type(self).default_loss
            # not what adapters, quantization or tensor parallelism have put in their place
            and type(self.lm_head) is VocabularyProjection
            and type(self.lm_head.weight) is nn.Parameter
            and not self.lm_head.weight.is_inference()
            and not torch.compiler.is_compiling()
        )

    def _late(self, hidden_states: torch.Tensor) -> LateLogits:
        device_type, gradients = hidden_states.device.type, torch.is_grad_enabled()
        mixed, dtype = torch.is_autocast_enabled(device_type), hidden_states.dtype
        half = torch.get_autocast_dtype(device_type)

        def compute() -> torch.Tensor:
            wanted = gradients and torch.is_grad_enabled()
            with torch.set_grad_enabled(wanted), torch.autocast(device_type, half, enabled=mixed):
                return self.project(hidden_states)

        def version() -> int:
            return sum(parameter._version for parameter in self.parameters())

        shape = (*hidden_states.shape[:-1], self.lm_head.out_features)
        return LateLogits(compute, version, shape, half if mixed else dtype, hidden_states.device)

    def _get_resized_lm_head(self, *arguments: Any, **options: Any) -> nn.Module:
        """transformers makes a new `Linear` where the size changes."""
        resized = super()._get_resized_lm_head(*arguments, **options)
        if type(resized) is nn.Linear:
            resized.__class__ = VocabularyProjection
        return resized


class GenerativeHead(LanguageModelHead):
    """A head that generates; a subclass is also a `GenerationMixin`."""

    def _prepare_cache_for_generation(
        self, generation_config: Any, model_kwargs: dict[str, Any], *arguments: Any
    ) -> None:
        """A cache that `generate` makes has room for the tokens to come."""
        given = model_kwargs.get("past_key_values")
        super()._prepare_cache_for_generation(generation_config, model_kwargs, *arguments)  # type: ignore[misc]
        if given is None:
            let_grow(model_kwargs.get("past_key_values"))

    def generate(self, *arguments: Any, **options: Any) -> Any:
        """As of `GenerationMixin`."""
        if type(self.lm_head) is not VocabularyProjection:
            return super().generate(*arguments, **options)
        with self.lm_head.for_few_rows():
            return super().generate(*arguments, **options)
