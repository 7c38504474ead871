"""Batches of one set of views."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cinema_lightning.data.sampler import Draw, ViewGroupSampler
from cinema_lightning.data.table import mask_of
from cinema_lightning.errors import CinemaError
from cinema_lightning.views import VIEWS

ALL = mask_of(VIEWS)
SAX = mask_of(["sax"])
NO_SAX = mask_of(["lax_2c", "lax_3c", "lax_4c"])
NO_2C = mask_of(["sax", "lax_3c", "lax_4c"])


def sampler(masks, *, batch_size=4, shuffle=True, **options):
    masks = np.asarray(masks, dtype=np.uint8)
    rows = np.arange(len(masks)) + 100
    return ViewGroupSampler(rows, masks, batch_size=batch_size, seed=3, shuffle=shuffle, **options)


MIXED = [ALL] * 21 + [NO_SAX] * 7 + [NO_2C] * 6 + [SAX] * 3


def test_batches_have_one_set_of_views_and_no_sample_twice():
    made = sampler(MIXED)
    batches = list(made)
    assert len(batches) == len(made) == 9  # 37 samples: 9 batches of 4
    assert made.n_dropped == 1
    seen = [draw.row for batch in batches for draw in batch]
    assert len(set(seen)) == len(seen) == 36
    for batch in batches:
        assert len(batch) == 4
        assert len({draw.views for draw in batch}) == 1
        for draw in batch:
            assert mask_of(draw.views) & ~MIXED[draw.row - 100] == 0
            assert draw == Draw(0, draw.row, draw.views, 1.0, None)


def test_samples_lose_views_only_in_batches_of_left_overs():
    batches = list(sampler([ALL] * 9 + [NO_2C] * 7, batch_size=4))
    kinds = Counter(batch[0].views for batch in batches)
    # 2 batches of ALL, 1 of NO_2C; the 1 and 3 left over share NO_2C's views.
    assert kinds == {tuple(VIEWS): 2, ("sax", "lax_3c", "lax_4c"): 2}


def test_left_overs_that_share_nothing_are_dropped():
    made = sampler([SAX] * 3 + [NO_SAX] * 6, batch_size=4)
    assert len(made) == 1
    assert made.n_dropped == 5


def test_order_is_keyed_on_seed_and_epoch():
    made, again = sampler(MIXED), sampler(MIXED)
    first = list(made)
    assert list(made) == first == list(again)
    again.set_epoch(1)
    second = list(again)
    assert [d.row for b in second for d in b] != [d.row for b in first for d in b]
    assert {draw.epoch for batch in second for draw in batch} == {1}
    lengths = set()
    for epoch in range(20):
        made.set_epoch(epoch)
        lengths.add(len(list(made)))
    assert lengths == {len(made)}


def test_every_sample_is_used_over_the_epochs():
    made, used = sampler([ALL] * 10), set()
    for epoch in range(12):
        made.set_epoch(epoch)
        used |= {draw.row for batch in made for draw in batch}
    assert len(used) == 10


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_the_global_batches_of_one(world_size):
    one = sampler(MIXED, batch_size=4)
    ranks = [sampler(MIXED, batch_size=4 // world_size, world_size=world_size, rank=r) for r in range(world_size)]
    for everyone in [one, *ranks]:
        everyone.set_epoch(2)
    parts = [list(rank) for rank in ranks]
    assert {len(part) for part in parts} == {len(one)}
    for whole, *shares in zip(one, *parts, strict=True):
        assert [draw for share in shares for draw in share] == whole


def test_skip_holds_for_one_iteration_and_keeps_the_length():
    made = sampler(MIXED)
    whole = list(made)
    made.skip = 4
    iterator = iter(made)
    assert made.skip == 0
    assert len(made) == len(whole)
    assert list(iterator) == whole[4:]
    assert list(made) == whole


def test_an_iteration_keeps_its_epoch():
    made = sampler(MIXED)
    whole = list(made)
    iterator = iter(made)
    made.set_epoch(5)
    assert list(iterator) == whole


def test_a_small_training_set_shrinks_the_batch():
    with pytest.warns(UserWarning, match="5 training samples are fewer than a batch of 16 .* batch size is 4 instead"):
        made = sampler([ALL] * 5, batch_size=16)
    assert (made.batch_size, len(made)) == (4, 1)
    with pytest.warns(UserWarning, match="batch size is 2 instead"):
        made = sampler([SAX] * 3 + [NO_SAX] * 3, batch_size=4)
    assert len(made) == 2


def test_too_few_samples():
    with pytest.raises(CinemaError, match="no samples"):
        sampler([])
    with pytest.raises(CinemaError, match="3 training samples are too few for 4 devices"):
        sampler([ALL] * 3, world_size=4)
    with (
        pytest.raises(CinemaError, match="No view is shared by 2 training samples"),
    ):
        sampler([SAX, NO_SAX], batch_size=1, world_size=2)
    with pytest.raises(CinemaError, match="batch_size is 0"):
        sampler([ALL], batch_size=0)


def test_validation_keeps_order_and_everything():
    made = sampler(MIXED, shuffle=False)
    made.set_epoch(7)
    batches = list(made)
    assert len(batches) == len(made)
    draws = [draw for batch in batches for draw in batch]
    assert sorted(draw.row for draw in draws) == list(range(100, 137))
    assert {draw.weight for draw in draws} == {1.0}
    assert {draw.epoch for draw in draws} == {0}
    assert all(mask_of(draw.views) == MIXED[draw.row - 100] for draw in draws)
    assert list(made) == batches


def test_validation_across_processes_is_filled_with_repeats_of_weight_zero():
    ranks = [list(sampler(MIXED, shuffle=False, batch_size=2, world_size=3, rank=rank)) for rank in range(3)]
    for shares in zip(*ranks, strict=True):
        assert len({len(share) for share in shares}) == 1
        assert len({draw.views for share in shares for draw in share}) == 1
    counted = [draw.row for rank in ranks for batch in rank for draw in batch if draw.weight]
    assert sorted(counted) == list(range(100, 137))
    extra = [draw for rank in ranks for batch in rank for draw in batch if not draw.weight]
    assert 0 < len(extra) < 3 * 4


def test_one_sample_on_many_processes():
    ranks = [list(sampler([ALL], shuffle=False, world_size=4, rank=rank)) for rank in range(4)]
    assert [[draw.weight for draw in batches[0]] for batches in ranks] == [[1], [0], [0], [0]]


def test_frames_are_handed_through():
    masks = np.full(3, ALL, dtype=np.uint8)
    made = ViewGroupSampler(np.array([5, 5, 6]), masks, batch_size=2, seed=0, shuffle=False, frames=np.array([0, 9, 4]))
    assert [(draw.row, draw.frame) for batch in made for draw in batch] == [(5, 0), (5, 9), (6, 4)]


def balanced(classes, masks=None, **options):
    made = sampler(masks or [ALL] * len(classes), **options)
    made.classes = np.asarray(classes)
    return made


def test_a_balanced_epoch_has_as_many_of_each_class():
    classes = [0] * 30 + [1] * 6 + [2] * 4
    made = balanced(classes)
    drawn = [draw for batch in made for draw in batch]
    assert len(drawn) == 40 == 4 * len(made)
    counts = Counter(classes[draw.row - 100] for draw in drawn)
    assert sorted(counts.values()) == [13, 13, 14]
    rare = Counter(draw.row for draw in drawn if classes[draw.row - 100] == 2)
    assert set(rare.values()) <= {3, 4}, "each of a rare class comes as often as the others"
    keys = [(draw.epoch, draw.row) for draw in drawn]
    assert len(set(keys)) == len(keys), "no two draws of a sample are keyed alike"
    made.set_epoch(1)
    other = {draw.row for batch in made for draw in batch}
    assert {row for row in other if row < 130} != {draw.row for draw in drawn if draw.row < 130}


def test_samples_of_no_class_come_once_in_a_balanced_epoch():
    classes = [-1] * 10 + [0] * 24 + [1] * 6
    drawn = [draw.row - 100 for batch in balanced(classes) for draw in batch]
    assert Counter(classes[row] for row in drawn) == {-1: 10, 0: 15, 1: 15}
    assert len({row for row in drawn if row < 10}) == 10


def test_a_balanced_order_is_that_of_all_ranks_and_of_a_resumed_run():
    classes, masks = [0] * 20 + [1] * 4 + [0] * 5 + [1] * 11, [ALL] * 24 + [NO_2C] * 16
    whole = list(balanced(classes, masks))
    shares = [list(balanced(classes, masks, batch_size=2, world_size=2, rank=rank)) for rank in (0, 1)]
    assert [a + b for a, b in zip(*shares, strict=True)] == whole
    resumed = balanced(classes, masks)
    resumed.skip = 3
    assert list(resumed) == whole[3:]
    counts = Counter(classes[draw.row - 100] for batch in whole for draw in batch)
    assert counts == {0: 20, 1: 20}


DEPTHS = [9] * 10 + [10] * 7 + [12] * 3 + [6] * 1


def by_depth(masks, slices, **options):
    return sampler(masks, slices=np.array(slices), **options)


def test_batches_hold_one_depth_and_neighbours_where_it_fills_none():
    made, padded = by_depth([SAX] * 21, DEPTHS), sampler([SAX] * 21)
    seen, lengths = Counter(), set()
    for epoch in range(10):
        made.set_epoch(epoch)
        padded.set_epoch(epoch)
        batches = list(made)
        lengths.add(len(batches))
        used = [draw for batch in batches for draw in batch]
        assert sorted(draw.row for draw in used) == sorted(draw.row for batch in padded for draw in batch)
        seen.update(draw.row for draw in used)
        assert all(draw.slices == DEPTHS[draw.row - 100] for draw in used)
        for batch in batches:
            assert {draw.depth for draw in batch} == {max(draw.slices for draw in batch)}
        # 10, 7, 3 and 1 samples, less one that is left over: at least 2 + 1 batches of 4 hold one depth
        assert sum(len({draw.slices for draw in batch}) == 1 for batch in batches) >= 3
    assert lengths == {5}
    assert len(seen) == 21  # also those of rare depths


def test_depth_counts_only_where_the_stack_is_used():
    batches = list(by_depth([NO_SAX] * 4 + [SAX] * 4 + [NO_2C] * 3 + [ALL] * 1, [9] * 12, batch_size=4))
    for batch in batches:
        assert {(draw.slices, draw.depth) for draw in batch} == {(9, 9) if "sax" in batch[0].views else (0, 0)}
    assert len(batches) == 3


def test_one_depth_changes_nothing():
    plain, deep = sampler(MIXED), by_depth(MIXED, [9] * 37)
    for one, other in zip(plain, deep, strict=True):
        assert [draw[:5] for draw in one] == [draw[:5] for draw in other]


@pytest.mark.parametrize(("world_size", "cuts"), [(2, 1), (1, 2), (2, 2)])
def test_the_depth_is_that_of_the_whole_batch_on_any_devices(world_size, cuts):
    options = {"batch_size": 4 // world_size // cuts, "world_size": world_size, "cuts": cuts}
    ranks = [list(by_depth([SAX] * 21, DEPTHS, rank=rank, **options)) for rank in range(world_size)]
    parts = [draw for share in zip(*ranks, strict=True) for part in share for draw in part]
    assert parts == [draw for batch in by_depth([SAX] * 21, DEPTHS) for draw in batch]


def test_balanced_classes_come_by_depth_too():
    made = by_depth([SAX] * 20, [9] * 10 + [12] * 10, batch_size=5)
    made.classes = np.array([0] * 16 + [1] * 4)
    for batch in made:
        assert all(draw.slices == (9 if draw.row < 110 else 12) for draw in batch)
        assert {draw.depth for draw in batch} == {max(draw.slices for draw in batch)}
    assert Counter(made.classes[draw.row - 100] for batch in made for draw in batch) == {0: 10, 1: 10}


@pytest.mark.parametrize("world_size", [1, 2])
def test_validation_batches_hold_one_depth(world_size):
    ranks = [by_depth([SAX] * 21, DEPTHS, shuffle=False, world_size=world_size, rank=r) for r in range(world_size)]
    for shares in zip(*ranks, strict=True):
        assert len({draw.slices for share in shares for draw in share}) == 1
        assert {draw.depth for share in shares for draw in share} == {shares[0][0].slices}
    real = sorted(draw.row for rank in ranks for batch in rank for draw in batch if draw.weight)
    assert real == list(range(100, 121))
