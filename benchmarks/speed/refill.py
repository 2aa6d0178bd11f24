"""Generation of many prompts, whose answers are of different lengths: continuous batching beside padded batches."""

from collections.abc import Iterator
from typing import Any

import torch
from transformers import StoppingCriteria

from trefoil.pipelines.continuous_batching import CACHED_TOKENS, continuous_batching

from .contest import Contest, Run
from .models import pair
from .train import ids

PROMPTS, WIDTH, LONGEST = 64, 32, 128


class Ends(StoppingCriteria):
    """An answer is of 8 to 128 tokens, most of them short, as the last token of its prompt says; both are asked alike."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **options: Any) -> torch.Tensor:
        return input_ids.shape[1] - WIDTH >= lengths_of_answers(input_ids[:, WIDTH - 1])


def lengths_of_answers(last: torch.Tensor) -> torch.Tensor:
    return (8 * 2 ** (last / 8192 * 4)).long()


def contest(rows: int, cached_tokens: int, target: float) -> Contest:
    """Against batches of so many rows; of ours run as many as `cached_tokens` let, all of them by default."""

    def make(device: torch.device) -> tuple[Run, Run, int]:
        ours, stock = pair("Llama", device, vocab_size=8192)
        prompts = ids(8192, PROMPTS, WIDTH).to(device)
        lengths = torch.randint(4, WIDTH + 1, (PROMPTS, 1), generator=torch.Generator().manual_seed(1)).to(device)
        mask = (torch.arange(WIDTH, device=device) >= WIDTH - lengths).long()
        prompts = prompts * mask
        new = lengths_of_answers(prompts[:, -1])

        def write(model: torch.nn.Module, chosen: slice, **options: Any) -> torch.Tensor:
            return model.generate(
                prompts[chosen], attention_mask=mask[chosen], max_new_tokens=LONGEST, do_sample=False,
                eos_token_id=None, pad_token_id=0, stopping_criteria=[Ends()], **options,
            )  # fmt: skip

        def refilled() -> torch.Tensor:
            return write(ours, slice(None), custom_generate=continuous_batching, cached_tokens=cached_tokens)

        def padded() -> list[torch.Tensor]:
            return [write(stock, slice(start, start + rows)) for start in range(0, PROMPTS, rows)]

        theirs = [row for batch in padded() for row in batch]
        for row, (found, expected) in enumerate(zip(refilled(), theirs, strict=True)):
            if not torch.equal(found[: WIDTH + new[row]], expected[: WIDTH + new[row]]):
                raise ValueError(f"ours does not write what Llama writes in batches of {rows}")
        return refilled, padded, int(new.sum())

    ours_rows = min(PROMPTS, cached_tokens // (WIDTH + LONGEST))
    return Contest(
        f"{PROMPTS} answers of 8 to {LONGEST} tokens, {ours_rows} rows at a time", f"Llama, {rows} rows", make, target
    )


def contests() -> Iterator[Contest]:
    for rows, target in ((8, 1.5), (16, 1.5)):
        yield contest(rows, rows * (WIDTH + LONGEST), target)
    for rows, target in ((8, 2.0), (64, 1.2)):
        yield contest(rows, CACHED_TOKENS, target)
