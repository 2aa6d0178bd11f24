import numpy as np
import pytest
import torch

from trefoil.data.batching import Share, StepDataset, plan_epoch, plan_in_order


def skewed(examples=3000, sides=2, seed=0):
    """Lengths as of sentences: many short ones, a few very long."""
    random = np.random.default_rng(seed)
    first = np.clip(random.lognormal(2.8, 0.7, examples), 2, 200)
    other = np.clip(first[:, None] * random.normal(1.1, 0.15, (examples, sides - 1)), 2, 256)
    return np.concatenate([first[:, None], other], axis=1).astype(np.int32)


def padded(batch, lengths):
    """Tokens of a batch, padding included."""
    return len(batch) * int(lengths[batch].max(axis=0).sum())


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("accumulation", [1, 2, 5])
@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_every_example_exactly_once_an_epoch(world_size, accumulation, sides):
    lengths = skewed(1000, sides)
    for epoch in range(2):
        plan = plan_epoch(lengths, 1500, seed=0, epoch=epoch)
        seen = [
            index
            for batch in plan
            for rank in range(world_size)
            for part in Share(rank, world_size, accumulation).of(batch)
            for index in part
        ]
        assert len(seen) == 1000
        assert set(seen) == set(range(1000))


@pytest.mark.parametrize("tokens", [300, 1500, 20_000, 10**9])
def test_the_token_budget_is_kept(tokens):
    lengths = skewed()
    for plan in (plan_epoch(lengths, tokens, 0, 0), plan_in_order(lengths, tokens)):
        assert all(len(batch) == 1 or padded(batch, lengths) <= tokens for batch in plan)
        assert sorted(np.concatenate(plan)) == list(range(len(lengths)))
    assert len(plan_epoch(lengths, 10**9, 0, 0)) == 1


def test_a_single_example_beyond_the_budget_makes_a_batch_of_its_own():
    lengths = np.array([[5, 5], [400, 300], [6, 4], [500, 10]], dtype=np.int32)
    for plan in (plan_epoch(lengths, 100, 0, 0), plan_in_order(lengths, 100)):
        assert sorted(sorted(batch.tolist()) for batch in plan) == [[0, 2], [1], [3]]


def test_budgets_beyond_32_bits():
    lengths = np.full((4, 1), 2**30, dtype=np.int32)
    assert len(plan_in_order(lengths, 2**32)) == 1
    assert len(plan_in_order(lengths, 2**31)) == 2


def same(plan, other):
    return len(plan) == len(other) and all(map(np.array_equal, plan, other))


def test_the_plan_is_a_pure_function_of_seed_and_epoch():
    lengths = skewed(500)
    plan = plan_epoch(lengths, 1000, seed=3, epoch=5)
    np.random.seed(1)
    torch.manual_seed(1)
    assert same(plan, plan_epoch(lengths.copy(), 1000, seed=3, epoch=5))
    for seed, epoch in [(3, 6), (4, 5), (5, 3)]:
        assert not same(plan, plan_epoch(lengths, 1000, seed, epoch))


def test_batches_come_in_no_order_of_length():
    lengths = skewed()
    longest = np.array([lengths[batch].max() for batch in plan_epoch(lengths, 1500, 0, 0)])
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.2


def test_evaluation_begins_with_the_longest():
    lengths = skewed()
    plan = plan_in_order(lengths, 1500)
    longest = [lengths[batch, 1].max() for batch in plan]
    assert longest == sorted(longest, reverse=True)
    assert longest[0] == lengths[:, 1].max()


@pytest.mark.parametrize(("tokens", "share"), [(1500, 0.15), (6000, 0.2), (25_000, 0.3)])
def test_little_of_a_batch_is_padding(tokens, share):
    lengths = skewed(20_000)
    plan = plan_epoch(lengths, tokens, 0, 0)
    total = sum(padded(batch, lengths) for batch in plan)
    assert 1 - lengths.sum() / total < share
    assert total / len(plan) > 0.85 * tokens


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_shares_are_disjoint_even_and_together_the_batch(world_size, accumulation):
    batch = np.arange(100, 117)
    parts = [part for rank in range(world_size) for part in Share(rank, world_size, accumulation).of(batch)]
    assert sorted(np.concatenate(parts)) == batch.tolist()
    sizes = {len(part) for part in parts}
    assert max(sizes) - min(sizes) <= 1


class RecordedTask:
    """Collates numbers as they are."""

    label_names = ("labels",)

    def randomize(self, rows, indices, epoch):
        return rows

    def collate(self, rows):
        return {"input_ids": torch.tensor(rows)[:, None], "labels": torch.tensor(rows)[:, None]}


def dataset(plan, share):
    return StepDataset(RecordedTask(), np.arange(1000) + 5, plan, share, epoch=0)


def test_an_empty_share_takes_part_but_does_not_count():
    (first, second, third) = dataset([np.array([7, 8])], Share(0, 1, 3))[0]
    assert first["labels"].tolist() == [[12]]
    assert second["labels"].tolist() == [[13]]
    assert third["input_ids"].shape == (1, 1)
    assert third["labels"].tolist() == [[-100]]


def test_every_process_has_as_many_steps_and_passes():
    plan = plan_epoch(skewed(500), 700, 0, 0)
    shares = [dataset(plan, Share(rank, 3, 2)) for rank in range(3)]
    assert [len(share) for share in shares] == [len(plan)] * 3
    for micro_batches in zip(*shares, strict=True):
        assert [len(each) for each in micro_batches] == [2, 2, 2]
    counted = [
        label
        for share in shares
        for step in share
        for batch in step
        for (label,) in batch["labels"].tolist()
        if label != -100
    ]
    assert sorted(counted) == list(range(5, 505))
