"""Batches of one set of views and one depth: which samples go together, in which order, on which process.

Subjects may lack views. Of the two ways to batch them (batches grouped by views, or absent views masked out) this one
groups: every sample of a global batch, over all processes, has the same views. A masked view would still be computed,
and a loss that is a mean over views would weigh differently on each process.

In training the samples are shuffled and grouped by their set of views; each group is cut into global batches. What is
left of the groups is batched on the largest set of views that enough of them share, so a sample may be used with fewer
views than it has, but every view of a batch is there. The tail that fills no global batch is dropped; it is another
one in each epoch. In validation the order is fixed, nothing is dropped, and the last batch of a group is filled up
with repeats of weight 0 so that all processes take the same steps.

Where stacks go through a network at their own depth, the batches of one set of views are dealt anew, by depth. Of a
depth that fills no batch, samples are put together with those of the next ones in training, and padded to the deepest
of the global batch, so that neither the number of batches nor who is in the epoch depends on depths. In validation
every batch holds one depth, so that no result depends on who else is in the batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data.distributed import DistributedSampler

from cinema_lightning.data.draws import generator
from cinema_lightning.data.table import mask_of, views_of
from cinema_lightning.errors import CinemaError
from cinema_lightning.views import VIEWS


class Draw(NamedTuple):
    """What the dataset needs to make one sample, so that it holds no state of its own.

    Attributes:
        epoch: Keys the random draws; 0 in validation.
        row: Row of the cohort, from 0.
        views: Views to read, in the order of ``VIEWS``.
        weight: 1, or 0 for a repeat that only fills a batch.
        frame: The frame to read; None draws one.
        slices: Slices that its stack has, as the cohort says; 0 where it has none, or where that is not known.
        depth: Slices that the stacks of its batch are padded to; 0 for as many as the deepest of them has.
    """

    epoch: int
    row: int
    views: tuple[str, ...]
    weight: float
    frame: int | None
    slices: int = 0
    depth: int = 0


REPEATS = 1_000_000
"""Added to the epoch that keys a sample's draws at each repeat within an epoch, so that no two are alike."""
_STACKS = mask_of(name for name, view in VIEWS.items() if view.dims == 3)


class _Planned(NamedTuple):
    """A batch: mask of views, positions of its samples and their weights, depth of its stacks."""

    mask: int
    positions: np.ndarray
    weights: np.ndarray
    depth: int


class ViewGroupSampler(DistributedSampler[list[Draw]]):
    """Yields the batches of one process as lists of :class:`Draw`.

    It is handed to a DataLoader as ``sampler`` with ``batch_size=None``, and is a DistributedSampler by type, so that
    Lightning calls ``set_epoch`` and leaves it in place.

    Args:
        rows: (n,) row of the cohort of each sample.
        masks: (n,) views of each sample as bits, already restricted to the views asked for.
        batch_size: Samples per process and batch.
        seed: The run's seed.
        shuffle: True for training: shuffled, incomplete tail dropped. False: fixed order, nothing dropped.
        frames: (n,) frame of each sample; None draws a frame at each visit.
        slices: (n,) slices of each sample's stack, by which batches are put together; None where that does not matter.
        world_size: Number of processes.
        rank: This process.
        cuts: Parts into which each global batch is cut, one after the other: so that a run whose batches no longer fit
            on the devices at hand goes on with the same ones. ``batch_size`` is that of a part.

    Attributes:
        batch_size: As given, or halved until a training epoch holds a whole global batch (with a warning).
        skip: Batches to leave out at the start of the next iteration only, to go on in the middle of an epoch. The
            length does not change.
        pinned: Every epoch is the first one, with its order and its draws (``trainer.overfit_batches``).
        classes: (n,) class of each sample where a training epoch is to have as many of each (of those with the same
            views): of a frequent class some are left out, another few in each epoch, and of a rare one each comes
            several times, with other draws each time. Those of no class (-1) come once each. An epoch stays as long
            as it is.
        n_dropped: Samples that no epoch can use in full: the size of the dropped tail.

    Raises:
        CinemaError: If there are no samples, or fewer than processes.
    """

    def __init__(
        self,
        rows: np.ndarray,
        masks: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool,
        frames: np.ndarray | None = None,
        slices: np.ndarray | None = None,
        world_size: int = 1,
        rank: int = 0,
        cuts: int = 1,
    ) -> None:
        # The parent's bookkeeping by index does not apply; only its type and its attribute names are used.
        self.num_replicas = world_size
        self.rank = rank
        self.epoch = 0
        self.shuffle = shuffle
        self.seed = seed
        self.rows = np.asarray(rows)
        self.masks = np.asarray(masks)
        self.frames = frames
        known = np.zeros(len(self.rows), dtype=int) if slices is None else np.asarray(slices, dtype=int)
        self.slices = np.where(self.masks & _STACKS, known, 0)
        self.batch_size = batch_size
        self.cuts = cuts
        self.skip = 0
        self.pinned = False
        self.classes: np.ndarray | None = None
        self._validate()
        self.n_dropped = 0
        if shuffle:
            self._shrink()
            self._length, used = self._plan()
            self.n_dropped = len(self.rows) - used
        else:
            self._length = len(self._fixed())

    def _validate(self) -> None:
        if self.batch_size < 1:
            raise CinemaError(f"batch_size is {self.batch_size}; it has to be at least 1.")
        if len(self.rows) == 0:
            raise CinemaError("There are no samples to make batches of; check views, split and limit_subjects.")
        if self.shuffle and len(self.rows) < self.num_replicas:
            raise CinemaError(
                f"{len(self.rows)} training samples are too few for {self.num_replicas} devices; use fewer devices."
            )

    def __len__(self) -> int:
        return self._length * self.cuts

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration; without effect on the fixed order of validation, or where pinned."""
        self.epoch = 0 if self.pinned else int(epoch)

    def __iter__(self) -> Iterator[list[Draw]]:
        # Read at once, not at the first batch: workers run ahead, and skip holds for this iteration only.
        skip, self.skip = self.skip, 0
        epoch = self.epoch if self.shuffle else 0
        batches = self._cut(self._shuffled(epoch)) if self.shuffle else self._fixed()
        return (self._draws(batch, epoch) for batch in batches[skip:])

    def _draws(self, batch: _Planned, epoch: int) -> list[Draw]:
        mask, positions, weights, depth = batch
        share = len(positions) // self.num_replicas
        mine = slice(self.rank * share, (self.rank + 1) * share)
        views, count = views_of(mask), len(self.rows)
        places = ((*divmod(int(p), count), float(w)) for p, w in zip(positions[mine], weights[mine], strict=True))
        return [
            Draw(
                epoch + again * REPEATS,
                int(self.rows[p]),
                views,
                weight,
                None if self.frames is None else int(self.frames[p]),
                int(self.slices[p]) if mask & _STACKS else 0,
                depth,
            )
            for again, p, weight in places
        ]

    def _cut(self, batches: list[_Planned]) -> list[_Planned]:
        size = self.at_once
        parts = [slice(start, start + size) for start in range(0, self.planned, size)]
        return [_Planned(mask, p[part], w[part], depth) for mask, p, w, depth in batches for part in parts]

    def _with_depth(self, mask: int, positions: np.ndarray, weights: np.ndarray) -> _Planned:
        depths = self.slices[positions % len(self.rows)] if mask & _STACKS else positions[:0]
        return _Planned(mask, positions, weights, int(depths.max(initial=0)))

    @property
    def at_once(self) -> int:
        """Samples that all processes take at once."""
        return self.batch_size * self.num_replicas

    @property
    def planned(self) -> int:
        """Samples of a global batch: those that are put together by their views."""
        return self.at_once * self.cuts

    def _shrink(self) -> None:
        """Halves the batch until an epoch holds one, rather than train on nothing."""
        asked = self.batch_size
        while self.batch_size > 1 and not self._plan()[0]:
            self.batch_size //= 2
        if not self._plan()[0]:
            raise CinemaError(
                f"No view is shared by {self.num_replicas} training samples, one for each device; use fewer devices."
            )
        if self.batch_size < asked:
            warnings.warn(
                f"{len(self.rows)} training samples are fewer than a batch of {asked} on each of {self.num_replicas} "
                f"device(s) with the same views: the batch size is {self.batch_size} instead.",
                stacklevel=4,
            )

    def _plan(self) -> tuple[int, int]:
        """Number of batches and of used samples of an epoch: a matter of counts, the same for every shuffle."""
        batches = self._group(np.arange(len(self.rows)))
        return len(batches), sum(len(positions) for _, positions in batches)

    def _shuffled(self, epoch: int) -> list[_Planned]:
        rng = generator(self.seed, epoch, "order")
        order = rng.permutation(len(self.rows)) if self.classes is None else self._balanced(rng)
        groups = self._by_depth(self._group(order))
        weights = np.ones(self.planned)
        shuffled = [groups[i] for i in rng.permutation(len(groups))]
        return [self._with_depth(mask, positions, weights) for mask, positions in shuffled]

    def _balanced(self, rng: np.random.Generator) -> np.ndarray:
        """Positions with as many of each class as there can be; that of an n-th repeat is higher by n epochs' samples.

        Each set of views keeps its number of samples, on which the number of batches depends.
        """
        assert self.classes is not None
        out = []
        for mask in np.unique(self.masks):
            of_mask = np.flatnonzero((self.masks == mask) & (self.classes >= 0))
            out.append(np.flatnonzero((self.masks == mask) & (self.classes < 0)))
            kinds = rng.permutation(np.unique(self.classes[of_mask]))
            for number, kind in enumerate(kinds):
                members = of_mask[self.classes[of_mask] == kind]
                share = len(of_mask) // len(kinds) + (number < len(of_mask) % len(kinds))
                rounds = [
                    rng.permutation(members) + again * len(self.rows) for again in range(-(-share // len(members)))
                ]
                out.append(np.concatenate([*rounds, members[:0]])[:share])
        return rng.permutation(np.concatenate(out))

    def _group(self, order: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """Cuts samples in the given order into whole global batches of one set of views each."""
        size = self.planned
        batches: list[tuple[int, np.ndarray]] = []
        left: list[np.ndarray] = []
        own = np.tile(self.masks, 1 + int(order.max()) // len(self.masks))  # of repeats, too
        masks = own[order]
        for mask in np.unique(masks):
            group = order[masks == mask]
            whole = len(group) - len(group) % size
            batches.extend((int(mask), chunk) for chunk in group[:whole].reshape(-1, size))
            left.append(group[whole:])
        rest = np.concatenate(left)
        while (shared := _shared_views(own[rest], size)) is not None:
            # Those with the fewest views to lose go first; stable, so otherwise in the shuffled order.
            having = np.flatnonzero((own[rest] & shared) == shared)
            lost = np.array([(int(mask) & ~shared).bit_count() for mask in own[rest[having]]])
            chosen = having[np.argsort(lost, kind="stable")[:size]]
            batches.append((shared, rest[chosen]))
            rest = np.delete(rest, chosen)
        return batches

    def _by_depth(self, batches: list[tuple[int, np.ndarray]]) -> list[tuple[int, np.ndarray]]:
        """Deals the samples of all batches of one set of views anew, so that those of one depth come together."""
        dealt = list(batches)
        for mask in {mask for mask, _ in batches if mask & _STACKS}:
            places = [place for place, (own, _) in enumerate(batches) if own == mask]
            pool = np.concatenate([batches[place][1] for place in places])
            depths = self.slices[pool % len(self.rows)]
            whole, left = [], []
            for depth in np.unique(depths):
                group = pool[depths == depth]
                cut = len(group) - len(group) % self.planned
                whole.append(group[:cut])
                left.append(group[cut:])  # in the order of their depths
            parts = np.concatenate([*whole, *left]).reshape(-1, self.planned)
            for place, part in zip(places, parts, strict=True):
                dealt[place] = mask, part
        return dealt

    def _fixed(self) -> list[_Planned]:
        batches: list[_Planned] = []
        kinds, first, kind = np.unique([self.masks, self.slices], axis=1, return_index=True, return_inverse=True)
        for number in np.argsort(first):
            group, mask = np.flatnonzero(kind.reshape(-1) == number), int(kinds[0, number])
            for start in range(0, len(group), self.planned):
                positions = group[start : start + self.planned]
                fill = -len(positions) % self.num_replicas
                weights = np.r_[np.ones(len(positions)), np.zeros(fill)]
                batches.append(self._with_depth(mask, np.r_[positions, np.resize(positions, fill)], weights))
        return batches


def _shared_views(masks: np.ndarray, count: int) -> int | None:
    """The largest set of views that at least ``count`` samples have; of equally large ones the most frequent."""
    if len(masks) < count:
        return None
    kinds, numbers = np.unique(masks, return_counts=True)
    sets = _intersections([int(kind) for kind in kinds])
    having = {views: int(numbers[(kinds & views) == views].sum()) for views in sets}
    enough = [views for views, number in having.items() if number >= count]
    return max(enough, key=lambda views: (views.bit_count(), having[views], -views), default=None)


def _intersections(kinds: Sequence[int]) -> set[int]:
    """All non-empty sets of views that some of the samples have in common."""
    sets = set(kinds)
    while True:
        more = sets | {a & b for a in sets for b in sets}
        if more == sets:
            return sets - {0}
        sets = more
