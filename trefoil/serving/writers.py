"""How a decoder writes many texts at once, which may come and go at any token.

transformers' continuous batching (Yu et al. 2022, Orca, §3.1; Kwon et al. 2023, PagedAttention) reads and writes all texts in
one forward pass. It gives all of them one way of drawing tokens, so here each text draws its own.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any, Protocol

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from transformers.generation import ContinuousBatchingConfig
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessorList
from transformers.generation.continuous_batching.continuous_api import OutputRouter

from .batches import Worker
from .errors import ApiError
from .limits import Limits
from .sequences import Sequence

CACHED_TOKENS = 16384  # that all texts have keys and values of
LONGEST = CACHED_TOKENS // 2  # text, so that one always has room, also of layers of two kinds
PAGE = 32  # of them lie together
PROBE = [0, 1, 2, 3, 4, 3, 2, 1]
PROBE_TOLERANCE = 0.05  # of the scores' spread: what bfloat16 rounds is less, positions that are left out more
PROBE_SECONDS = 60
NO_END = -1


class Writer(Protocol):
    """Writes sequences, and hands each of their tokens over when it is there."""

    is_continuous: bool

    def add(self, sequence: Sequence) -> None: ...

    def cancel(self, sequence: Sequence) -> None: ...

    def is_alive(self) -> bool: ...

    def stop(self, seconds: float) -> None: ...


class PagedWriter:
    """Texts join and leave between two tokens.

    Args:
        model: A decoder whose attention can be paged.
        observe: Is told how many texts took part in each step.
    """

    is_continuous = True

    def __init__(self, model: Any, limits: Limits, observe: Callable[[int], None]) -> None:
        self.sequences: dict[str, Sequence] = {}
        # its errors are told to those whom they concern
        logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)
        config = GenerationConfig(do_sample=False, eos_token_id=model.generation_config.eos_token_id)
        self.manager = model.init_continuous_batching(
            generation_config=config,
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=PAGE,
                num_blocks=CACHED_TOKENS // PAGE,
                max_batch_tokens=limits.tokens,
                max_requests_per_batch=limits.rows,
                use_async_batching=False,  # the next tokens are chosen by the host
                use_cuda_graph=False,
            ),
        )
        self.manager.logit_processor = _Choices(self.sequences, observe)
        self.manager.output_router = _Failures(self.sequences)
        self.manager.start()

    def add(self, sequence: Sequence) -> None:
        if not self.is_alive():
            raise ApiError(503, "the model has stopped")
        self.sequences[sequence.name] = sequence
        ends = list(sequence.ends) or NO_END
        self.manager.add_request(sequence.prompt, sequence.name, max_new_tokens=sequence.room, eos_token_id=ends)

    def cancel(self, sequence: Sequence) -> None:
        sequence.gone = True
        # also one that failed: it would go on to its last token
        if self.sequences.pop(sequence.name, None) is not None:
            self.manager.cancel_request(sequence.name)

    def is_alive(self) -> bool:
        return self.manager.is_running()

    def stop(self, seconds: float) -> None:
        self.manager.stop(timeout=seconds, hard_stop=True)


class _Choices(ContinuousBatchingLogitsProcessorList):
    """Scores by which each sequence gets the token that it has chosen."""

    def __init__(self, sequences: dict[str, Sequence], observe: Callable[[int], None]) -> None:
        super().__init__(LogitsProcessorList())
        self.sequences, self.observe = sequences, observe
        self.do_processing = True
        self.names: list[str] = []

    def prepare_tensor_args(self, requests_in_batch: list[Any], arg_storage: torch.Tensor) -> torch.Tensor:
        self.observe(len(requests_in_batch))
        self.names = [each.state.request_id for each in requests_in_batch if each.has_new_token]
        return arg_storage

    def __call__(self, input_ids: Any, scores: torch.Tensor, logits_processor_args: Any) -> torch.Tensor:
        return _chosen([self.sequences.get(name) for name in self.names], scores)


class _Failures(OutputRouter):
    """Tells those who wait of errors; of their tokens they know."""

    def __init__(self, sequences: dict[str, Sequence]) -> None:
        super().__init__()
        self.sequences = sequences

    def deliver(self, output: Any) -> None:
        sequence = self.sequences.pop(output.request_id, None)
        if sequence is not None and output.error is not None:
            sequence.fail(output.error)

    def deliver_batch(self, outputs: list[Any]) -> None:
        for output in outputs:
            self.deliver(output)


class PaddedWriter:
    """For attention that cannot be paged, because positions are added to its scores: texts that wait are begun together when
    those before have ended.

    Args:
        model: A decoder.
        observe: Is told how many texts each batch has.
    """

    is_continuous = False

    def __init__(self, model: Any, limits: Limits, observe: Callable[[int], None]) -> None:
        self.model, self.observe = model, observe
        self.worker: Worker[Sequence] = Worker(self._write, limits.rows, limits.tokens)
        self.worker.start()

    def add(self, sequence: Sequence) -> None:
        self.worker.add([sequence])

    def cancel(self, sequence: Sequence) -> None:
        sequence.gone = True

    def is_alive(self) -> bool:
        return self.worker.thread.is_alive()

    def stop(self, seconds: float) -> None:
        for sequence in self.worker.waiting:
            sequence.gone = True
        self.worker.stop(seconds)

    def _write(self, batch: list[Sequence]) -> None:
        self.observe(len(batch))
        width = max(sequence.tokens for sequence in batch)
        padding = [width - sequence.tokens for sequence in batch]
        ids = [[0] * left + sequence.prompt for left, sequence in zip(padding, batch, strict=True)]
        mask = [[0] * left + [1] * sequence.tokens for left, sequence in zip(padding, batch, strict=True)]
        try:
            self.model.generate(
                torch.tensor(ids, device=self.model.device),
                attention_mask=torch.tensor(mask, device=self.model.device),
                do_sample=False,
                max_new_tokens=max(sequence.room for sequence in batch),
                logits_processor=LogitsProcessorList([_Chosen(batch)]),
                stopping_criteria=StoppingCriteriaList([_Ended(batch)]),
            )
        except Exception as error:  # or the thread would end, and with it all that come after
            for sequence in batch:
                sequence.fail(error)


class _Chosen(LogitsProcessor):
    def __init__(self, batch: list[Sequence]) -> None:
        self.batch = batch

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return _chosen(self.batch, scores)


class _Ended(StoppingCriteria):
    def __init__(self, batch: list[Sequence]) -> None:
        self.batch = batch

    def __call__(self, input_ids: torch.Tensor, scores: Any, **options: Any) -> torch.Tensor:
        return torch.tensor([each.has_ended or each.gone for each in self.batch], device=input_ids.device)


def _chosen(sequences: Any, scores: torch.Tensor) -> torch.Tensor:
    """Scores `(R, V)` of which the largest are the tokens that the sequences choose."""
    chosen = torch.zeros_like(scores)
    for row, sequence in enumerate(sequences):
        chosen[row, 0 if sequence is None else sequence.next(scores[row])] = 1
    return chosen


def start_writer(model: Any, limits: Limits, observe: Callable[[int], None]) -> Writer:
    """Continuous where the model says with paged attention what it says without, which a few tokens tell.

    The model's own way of generating is taken off it: each sequence has it.
    """
    defaults = model.generation_config
    model.generation_config = GenerationConfig(
        bos_token_id=defaults.bos_token_id, eos_token_id=defaults.eos_token_id, pad_token_id=defaults.pad_token_id or 0
    )
    probe = _Probe(model)
    paged = PagedWriter(model, limits, observe)
    is_as_expected = False
    try:
        paged.add(probe)  # type: ignore[arg-type]
        is_as_expected = probe.is_as_expected()
    finally:
        if not is_as_expected:  # also at Ctrl+C: its thread would keep the process
            paged.stop(PROBE_SECONDS)
    return paged if is_as_expected else PaddedWriter(model, limits, observe)


class _Probe:
    """A sequence of tokens that are known before, as are the scores that they have without paged attention."""

    name, prompt, room, ends = "probe", PROBE[:4], len(PROBE) - 4, frozenset[int]()

    def __init__(self, model: Any) -> None:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([PROBE], device=model.device)).logits
        self.expected = logits[0, len(self.prompt) - 1 : -1].float().cpu()
        self.scores: list[torch.Tensor] = []
        self.is_answered = threading.Event()

    def next(self, scores: torch.Tensor) -> int:
        self.scores.append(scores.float().cpu())
        if len(self.scores) == self.room:
            self.is_answered.set()
        return PROBE[len(self.prompt) + len(self.scores) - 1]

    def fail(self, error: object) -> None:
        self.is_answered.set()

    def is_as_expected(self) -> bool:
        if not self.is_answered.wait(PROBE_SECONDS) or len(self.scores) < self.room:
            return False
        return bool((torch.stack(self.scores) - self.expected).abs().max() <= PROBE_TOLERANCE * self.expected.std())
