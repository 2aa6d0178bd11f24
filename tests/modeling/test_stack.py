"""What all stacks share."""

import pytest
import torch
from conftest import tiny_model


@pytest.mark.parametrize("family", ["decoder", "encoder-decoder"])
def test_logits_only_where_they_are_wanted(family, token_ids):
    model = tiny_model(family)
    logits = model(token_ids).logits
    assert torch.equal(model(token_ids, logits_to_keep=0).logits, logits)
    mask = token_ids % 2 == 0
    wanted = {
        1: logits[:, -1:],
        4: logits[:, -4:],
        torch.tensor([2, 5]): logits[:, [2, 5]],
        torch.tensor([[2, 5], [0, 8]]): torch.stack((logits[0, [2, 5]], logits[1, [0, 8]])),
        mask: logits[mask],
    }
    for positions, expected in wanted.items():
        torch.testing.assert_close(model(token_ids, logits_to_keep=positions).logits, expected)
