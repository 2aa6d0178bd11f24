"""Any rows of any lengths, padded and packed in any way: each document's logits are those that it has alone."""

import pytest
import torch
from conftest import FAMILIES, SMALL, VARIANTS, tiny_model
from fuzzing import FEW, MANY, hypothesis, times
from hypothesis import strategies as st

PADDING = 7
LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def documents(seed, lengths):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, SMALL["vocab_size"], (length,), generator=generator) for length in lengths]


def rows(parts, value, side, extra):
    """Rows of pieces, with so many more places than the longest needs."""
    joined = [torch.cat(part) for part in parts]
    length = max(map(len, joined)) + extra
    filled = [row.new_full((length - len(row),), value) for row in joined]
    pairs = zip(joined, filled, strict=True)
    return torch.stack([torch.cat(pair if side == "right" else pair[::-1]) for pair in pairs])


def packed(texts, prefix, places, side, extra):
    """A batch of rows, each with the documents at some of the places."""
    chosen = [[texts[place] for place in row] for row in places]
    return {
        f"{prefix}input_ids": rows(chosen, PADDING, side, extra),
        f"{prefix}attention_mask": rows([[torch.ones_like(ids) for ids in row] for row in chosen], 0, side, extra),
        f"{prefix}position_ids": rows([[torch.arange(len(ids)) for ids in row] for row in chosen], 0, side, extra),
        f"{prefix}sequence_ids": rows(
            [[torch.full_like(ids, number) for number, ids in enumerate(row)] for row in chosen], -1, side, extra
        ),
    }


@pytest.mark.parametrize("more", [FEW, MANY])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_document_is_as_it_is_alone(family, more):
    models = {}
    keys = st.tuples(st.sampled_from(list(VARIANTS)), st.sampled_from(["eager", "sdpa"]))
    shapes = LENGTHS.flatmap(
        lambda lengths: st.tuples(
            st.just(lengths),
            st.lists(st.integers(1, 12), min_size=len(lengths), max_size=len(lengths)),
            st.lists(st.integers(0, 2), min_size=len(lengths), max_size=len(lengths)),
        )
    )

    @hypothesis.given(keys, shapes, st.sampled_from(["left", "right"]), st.integers(0, 3), st.integers(0, 9))
    @torch.no_grad()
    def check(key, shape, side, extra, seed):
        if key not in models:
            models[key] = tiny_model(family, key[0], attn_implementation=key[1])
        model, (lengths, targets, row_of) = models[key], shape
        places = [row for number in range(3) if (row := [at for at, one in enumerate(row_of) if one == number])]
        batch = packed(documents(seed, lengths), "", places, side, extra)
        prefix = ""
        if family == "encoder-decoder":
            prefix = "decoder_"
            batch |= packed(documents(seed + 1, targets), prefix, places, side, extra)
        logits = model(**batch, use_cache=False).logits
        for row, chosen in enumerate(places):
            for number, place in enumerate(chosen):
                alone = {"input_ids": documents(seed, lengths)[place][None]}
                if prefix:
                    alone["decoder_input_ids"] = documents(seed + 1, targets)[place][None]
                found = logits[row][batch[f"{prefix}sequence_ids"][row] == number]
                torch.testing.assert_close(found, model(**alone, use_cache=False).logits[0], atol=1e-4, rtol=1e-4)

    times(check, 8, more)
