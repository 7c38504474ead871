"""Heights of slices along a stack's normal to places at equal distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cinema_lightning.errors import CinemaError

# Smaller distances are no distances of slices, mm.
SHORTEST = 1.0
# A slice may lie this share of the distance before or behind its place.
OFF_PLACE = 0.15
# A distance that leaves more places empty than this share explains the slices by chance.
BY_CHANCE = 0.4
# Places without a slice that may be filled, and the share of the slices that the span calls for that must be there.
MOST_FILLED, FEWEST = 1, 0.7


@dataclass(frozen=True)
class Grid:
    """Places of slices along the normal.

    Attributes:
        first: Height of place 0, mm.
        distance: From place to place, mm.
        places: Place of each slice from 0; None for one that has none.
        off: How far the farthest of the others lies off its place, as a share of the distance.
    """

    first: float
    distance: float
    places: tuple[int | None, ...]
    off: float = 0.0

    @property
    def taken(self) -> list[int]:
        """Places of the slices that have one."""
        return [place for place in self.places if place is not None]

    @property
    def missing(self) -> list[int]:
        """Places between others that no slice has."""
        return sorted(set(range(max(self.taken, default=-1) + 1)) - set(self.taken))

    @property
    def merit(self) -> tuple[int, int, float]:
        """What makes a grid a better one: more slices, then fewer gaps, then slices nearer to their places."""
        return len(self.taken), -len(self.missing), -self.off

    def check(self, heights: np.ndarray) -> None:
        """Refuses a stack with holes.

        Args:
            heights: Heights of all slices that belong to it, whether they have a place or not, mm.

        Raises:
            CinemaError: If more than one place, or more than 30% of those that the span calls for, have no slice, or
                more than half of the slices have no place.
        """
        wanted = round(float(np.ptp(heights)) / self.distance) + 1
        enough = len(self.taken) >= FEWEST * wanted and 2 * len(self.taken) >= len(self.places)
        if len(self.missing) <= MOST_FILLED and enough:
            return
        apart = ", ".join(f"{step:.1f}" for step in np.diff(np.unique(heights.round(1))))
        raise CinemaError(
            f"the SAX stack is incomplete: {len(self.taken)} usable slices, but at {self.distance:.1f} mm from one to "
            f"the next there should be {wanted} (distances found: {apart} mm): look for those that are missing"
        )


def fit_grid(heights: np.ndarray) -> Grid:
    """The grid that gives most slices a place, of these the one with the fewest gaps, then the most regular one.

    Args:
        heights: (n,) heights of at least two slices, ascending, mm.

    Returns:
        The grid.
    """
    grids = [_fit(heights, start, step) for step in _distances(heights) for start in _starts(heights, step)]
    commonest = _commonest(np.diff(heights))
    sensible = [
        grid
        for grid in grids
        if len(grid.missing) <= BY_CHANCE * (max(grid.taken, default=0) + 1)
        or abs(grid.distance - commonest) <= OFF_PLACE * commonest
    ]
    return _with_nearest(heights, max(sensible, key=lambda grid: grid.merit))


def _commonest(steps: np.ndarray) -> float:
    alike = np.abs(steps[:, None] - steps) <= OFF_PLACE * steps[:, None]
    return float(steps[alike.sum(axis=1).argmax()])


def _with_nearest(heights: np.ndarray, grid: Grid) -> Grid:
    """A slice that has no place takes the empty one that is nearest to it: it was scanned, and a filled one was not."""
    exact = (heights - grid.first) / grid.distance
    places = list(grid.places)
    for missing in grid.missing:
        near = [index for index, place in enumerate(places) if place is None and round(exact[index]) == missing]
        if near:
            places[min(near, key=lambda index: abs(exact[index] - missing))] = missing
    return _laid(heights, places, grid.first, grid.distance)


def _distances(heights: np.ndarray) -> list[float]:
    """Distances that slices have, on the way to the next but one, or on the whole way with some missing or too many."""
    count = len(heights)
    whole = np.ptp(heights) / np.arange(max(1, count - 3), count + 3)
    steps = np.concatenate([np.diff(heights), (heights[2:] - heights[:-2]) / 2, whole]).tolist()
    return [step for step in {round(step, 2): step for step in steps}.values() if step > SHORTEST]


def _starts(heights: np.ndarray, distance: float) -> list[float]:
    """Where a grid may begin: at one of the first slices, or so that all slices lie about as far off."""
    turn = np.angle(np.exp(2j * np.pi * heights / distance).mean()) / (2 * np.pi)
    return [*heights[heights < heights[0] + 2 * distance].tolist(), float(turn * distance)]


def _fit(heights: np.ndarray, start: float, distance: float) -> Grid:
    """Slices to places, twice: the grid is laid through them anew, so that small errors do not add up."""
    grid = _laid(heights, _places(heights, start, distance), start, distance)
    return _laid(heights, _places(heights, grid.first, grid.distance), grid.first, grid.distance)


def _laid(heights: np.ndarray, places: list[int | None], start: float, distance: float) -> Grid:
    """The grid that passes nearest to the slices at their places; as it was where there are not two of them."""
    taken = [(place, height) for place, height in zip(places, heights.tolist(), strict=True) if place is not None]
    if len(taken) > 1:
        at, measured = (np.array(numbers, float) for numbers in zip(*taken, strict=True))
        distance, start = np.polyfit(at, measured, 1).tolist()
    lowest = min((place for place, _ in taken), default=0)
    off = max((abs((height - start) / distance - place) for place, height in taken), default=0.0)
    moved = tuple(None if place is None else place - lowest for place in places)
    return Grid(start + lowest * distance, distance, moved, off)


def _places(heights: np.ndarray, start: float, distance: float) -> list[int | None]:
    """The nearest place of each slice; of two slices at one place the nearer has it."""
    exact = (heights - start) / distance
    nearest = np.round(exact)
    off = np.abs(exact - nearest)
    best = {place: off[nearest == place].argmin() for place in nearest.tolist()}
    first = {place: int(np.flatnonzero(nearest == place)[index]) for place, index in best.items()}
    return [
        int(place) if off[index] <= OFF_PLACE and first[place] == index else None
        for index, place in enumerate(nearest.tolist())
    ]
