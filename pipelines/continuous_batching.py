"""Continuous batching (Yu et al. 2022, Orca, §3.1): rows that have ended make room for prompts that wait.

A padded batch takes as long as its longest answer. Here the batch changes between two tokens: rows that have ended leave it,
with their keys and values, and the next prompts are read and join it. Rows end at the right; what is on their left is masked.

Shapes: N prompts, R rows at a time, P prompt length, padding included, L longest row, V vocabulary.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    EncoderNoRepeatNGramLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    GenerationConfig,
    LogitsProcessorList,
    PrefixConstrainedLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    StoppingCriteriaList,
    SynthIDTextWatermarkLogitsProcessor,
    UnbatchedClassifierFreeGuidanceLogitsProcessor,
)
from transformers.cache_utils import (
    BaseQuantizedLayer,
    Cache,
    DynamicCache,
    DynamicIndexedLayer,
    DynamicLayer,
    LinearAttentionLayer,
)

CACHED_TOKENS = 16384
SHARE_TO_REFILL = 8  # prompts are read in a pass of their own, so they wait for an eighth of the rows to be free

# they remember rows by their numbers, or all of them
OF_FIXED_ROWS = (
    EncoderNoRepeatNGramLogitsProcessor,
    EncoderRepetitionPenaltyLogitsProcessor,
    PrefixConstrainedLogitsProcessor,
    SynthIDTextWatermarkLogitsProcessor,
    UnbatchedClassifierFreeGuidanceLogitsProcessor,
)
TAKEN = {"attention_mask", "position_ids", "past_key_values", "use_cache", "logits_to_keep"}


class NotContinuous(ValueError):
    """What is asked for needs rows that stay together from the first token to the last."""


def continuous_batching(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    cached_tokens: int = CACHED_TOKENS,
    numbers: list[int] | None = None,
    **model_kwargs: Any,
) -> torch.Tensor:
    """How `generate` of a decoder goes on with many prompts: `model.generate(…, custom_generate=continuous_batching)`.

    Greedy tokens are those of each prompt alone. Processors and criteria are given the rows of some prompts at a time.

    Args:
        input_ids: `(N, P)`, padded on the left.
        cached_tokens: At most so many keys and values at a time, padding and those that may still come included; those of
            one prompt in any case.
        numbers: What messages call the prompts. Default: 0 to N - 1.
        model_kwargs: `attention_mask (N, P)`, and what else `generate` prepares; the rest it takes as it does for all.

    Returns:
        `(N, P + T)`: T is the length of the longest answer; others are padded on the right.

    Raises:
        NotContinuous: Beams, assistants, scores, encoders, caches and inputs of one's own.
        ValueError: A prompt, or what has become of it, is longer than the model's learned positions.
    """
    _require_rows_that_may_change(model, logits_processor, generation_config, model_kwargs)
    mask, positions = model_kwargs["attention_mask"], model_kwargs["position_ids"]
    mask = torch.ones_like(input_ids) if mask is None else mask
    positions = positions.expand_as(input_ids)
    first = mask.ne(0).int().argmax(dim=1).tolist()
    width, limit = input_ids.shape[1], _positions(model.config)
    waiting = sorted(range(len(first)), key=first.__getitem__)  # the longest first: memory runs out at once, or never
    answers: list[torch.Tensor] = [input_ids[:0, 0]] * len(first)
    running = _Rows(copy.deepcopy(model_kwargs["past_key_values"]), mask[:0, :0], positions[:0, :1], [])

    def require_positions(row: int, length: int) -> None:
        if limit is not None and length > limit:
            prompt = row // generation_config.num_return_sequences
            raise ValueError(
                f"prompt {prompt if numbers is None else numbers[prompt]}, of {width - first[row]} tokens, needs {length} "
                f"positions, but the model has max_position_embeddings={limit}; truncate it, or lower max_new_tokens"
            )

    def go_on(rows: _Rows, ids: torch.Tensor, position_ids: torch.Tensor) -> _Rows:
        """Reads tokens `(R, T)`, adds the next one to each row, and lets those go that end with it."""
        options = {name: model_kwargs[name] for name in ("use_cache", "logits_to_keep") if name in model_kwargs}
        outputs = model(
            input_ids=ids,
            attention_mask=rows.mask,
            position_ids=position_ids,
            past_key_values=rows.cache,
            **options,
        )
        logits = outputs.logits[:, -1].to(copy=True, dtype=torch.float32, device=ids.device)
        ended = []
        for group, scores in zip(rows.groups, logits.split([len(group.rows) for group in rows.groups]), strict=True):
            scores = _of_rows(logits_processor, group.rows)(group.ids, scores)
            if generation_config.do_sample:
                tokens = torch.multinomial(scores.softmax(dim=-1), num_samples=1)
            else:
                tokens = scores.argmax(dim=-1, keepdim=True)
            group.ids = torch.cat((group.ids, tokens), dim=1)
            ended.append(stopping_criteria(group.ids, None))
        rows.next_positions = position_ids[:, -1:] + 1
        for row, answer in rows.drop(torch.cat(ended)):
            answers[row] = answer[width:]
        return rows

    for row in waiting:
        require_positions(row, width - first[row])
    while waiting or running.groups:
        count = sum(len(group.rows) for group in running.groups)
        earliest = min(first[row] for row in [*waiting[:1], *(row for group in running.groups for row in group.rows)])
        most = max(1, cached_tokens // (generation_config.max_length - earliest))
        if waiting and most - count >= min(len(waiting), max(1, most // SHARE_TO_REFILL)):
            chosen, waiting = waiting[: most - count], waiting[most - count :]
            left, rows = first[chosen[0]], torch.tensor(chosen, device=input_ids.device)
            group = _Group(chosen, input_ids[rows])
            fresh = _Rows(copy.deepcopy(model_kwargs["past_key_values"]), mask[rows, left:], positions[rows], [group])
            fresh = go_on(fresh, input_ids[rows, left:], positions[rows, left:])
            running = running.joined_by(fresh)
        else:
            for group in running.groups:
                longest = min(group.rows, key=first.__getitem__)
                require_positions(longest, group.ids.shape[1] - first[longest])
            running.mask = torch.nn.functional.pad(running.mask, (0, 1), value=1)
            go_on(running, torch.cat([group.ids[:, -1:] for group in running.groups]), running.next_positions)
    padding = _padding(generation_config)
    padded = torch.nn.utils.rnn.pad_sequence(answers, batch_first=True, padding_value=padding)
    return torch.cat((input_ids, padded), dim=1)


@dataclass
class _Group:
    """Rows that were begun together, and have as many new tokens: processors and criteria know a batch of such rows.

    Attributes:
        rows: The prompts' places among all.
        ids: `(len(rows), P + new tokens)`.
    """

    rows: list[int]
    ids: torch.Tensor


@dataclass
class _Rows:
    """Rows that are generated together.

    Attributes:
        cache: The keys and values of all tokens but the last.
        mask: `(R, L)`, 1 for tokens of which there are keys and values.
        next_positions: `(R, 1)`, of the last token.
        groups: All rows, in the order of the cache.
    """

    cache: Cache
    mask: torch.Tensor
    next_positions: torch.Tensor
    groups: list[_Group]

    def drop(self, ended: torch.Tensor) -> list[tuple[int, torch.Tensor]]:
        """Takes rows `ended (R)` out, and columns that only they had; returns their places, and their tokens."""
        if not ended.any():
            return []
        dropped, kept = [], ~ended
        for group, stays in zip(self.groups, kept.split([len(group.rows) for group in self.groups]), strict=True):
            dropped += [(group.rows[place], group.ids[place]) for place in (~stays).nonzero()[:, 0].tolist()]
            group.rows = [group.rows[place] for place in stays.nonzero()[:, 0].tolist()]
            group.ids = group.ids[stays]
        self.groups = [group for group in self.groups if group.rows]
        self.mask, self.next_positions = self.mask[kept], self.next_positions[kept]
        self.cache.batch_select_indices(kept)
        length = self.mask.shape[1] - int(self.mask.ne(0).any(dim=0).int().argmax())
        self.mask = self.mask[:, -length:]
        for layer in self.cache.layers:
            layer.keys, layer.values = layer.keys[:, :, -length:], layer.values[:, :, -length:]
            if layer.is_sliding:
                layer.cumulative_length = length
        return dropped

    def joined_by(self, others: "_Rows") -> "_Rows":
        """These rows and the others, of which the shorter are masked on the left."""
        if not (self.groups and others.groups):
            return self if self.groups else others
        for layer, other in zip(self.cache.layers, others.cache.layers, strict=True):
            layer.keys, layer.values = _stacked(layer.keys, other.keys, -2), _stacked(layer.values, other.values, -2)
            if layer.is_sliding:
                layer.cumulative_length = max(layer.cumulative_length, other.cumulative_length)
        return _Rows(
            self.cache,
            _stacked(self.mask, others.mask, -1),
            torch.cat((self.next_positions, others.next_positions)),
            self.groups + others.groups,
        )


def _of_rows(logits_processor: LogitsProcessorList, rows: list[int]) -> LogitsProcessorList:
    """A penalty of repetitions knows how long the padding of each row is, and is told that of these."""
    chosen = LogitsProcessorList()
    for each in logits_processor:
        if isinstance(each, RepetitionPenaltyLogitsProcessor) and isinstance(each.prompt_ignore_length, torch.Tensor):
            each = copy.copy(each)
            each.prompt_ignore_length = each.prompt_ignore_length[rows]
        chosen.append(each)
    return chosen


def _stacked(first: torch.Tensor, second: torch.Tensor, dim: int) -> torch.Tensor:
    """One above the other, of which the shorter has zeros in front."""
    length = max(first.shape[dim], second.shape[dim])
    after = (0, 0) * (-1 - dim)
    return torch.cat([torch.nn.functional.pad(each, (*after, length - each.shape[dim], 0)) for each in (first, second)])


def _require_rows_that_may_change(
    model: Any, logits_processor: LogitsProcessorList, generation_config: GenerationConfig, model_kwargs: dict[str, Any]
) -> None:
    mode = generation_config.get_generation_mode()
    cache: Any = model_kwargs.get("past_key_values")
    if mode not in ("greedy_search", "sample"):
        raise NotContinuous(f"continuous batching is greedy or samples; it does not do {mode.value}")
    if generation_config.return_dict_in_generate or not generation_config.use_cache:
        raise NotContinuous(
            "continuous batching returns token ids and needs a cache: leave out return_dict_in_generate and use_cache"
        )
    if unknown := sorted(model_kwargs.keys() - TAKEN):
        raise NotContinuous(f"continuous batching takes input_ids and attention_mask, but not {', '.join(unknown)}")
    if missing := [name for name in ("attention_mask", "position_ids") if name not in model_kwargs]:
        raise NotContinuous(f"{type(model).__name__} takes no {' and '.join(missing)}, which continuous batching needs")
    if refused := [type(each).__name__ for each in logits_processor if isinstance(each, OF_FIXED_ROWS)]:
        raise NotContinuous(
            f"continuous batching changes the rows, and {' and '.join(refused)} needs them as they were"
        )
    if (
        type(cache) is not DynamicCache
        or generation_config.cache_implementation not in (None, "dynamic")
        or cache.get_seq_length()
    ):
        raise NotContinuous(
            "continuous batching makes its own cache: leave out past_key_values and cache_implementation"
        )
    if layers := {type(layer).__name__ for layer in cache.layers if not _holds_rows(layer)}:
        raise NotContinuous(f"continuous batching cannot join rows of {', '.join(layers)}")


def _holds_rows(layer: Any) -> bool:
    """Whether a cache's layer holds keys and values as they are, and nothing else."""
    others = (BaseQuantizedLayer, DynamicIndexedLayer, LinearAttentionLayer)
    return isinstance(layer, DynamicLayer) and not isinstance(layer, others)


def _positions(config: Any) -> int | None:
    """How many there are; other kinds than learned ones go on without end."""
    return config.max_position_embeddings if getattr(config, "position_embedding_type", None) == "learned" else None


def _padding(generation_config: GenerationConfig) -> int:
    ends = generation_config.eos_token_id
    candidates = (generation_config.pad_token_id, *(ends if isinstance(ends, list) else [ends]), 0)
    return next(token_id for token_id in candidates if token_id is not None)
