"""Single slices to one SAX stack: which of them belong together, and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.dicom import Cine
from cinema_lightning.imaging.geometry import affine_from_lps

# Cosine of one degree: slices whose axes differ by more are not parallel.
PARALLEL_COSINE = 0.99985
# Distances within 5% of each other count as equal; a header within 10% of the positions is believed.
EQUIDISTANT, BELIEVED = 0.05, 0.1
MIN_STEP = 0.5


def single(cine: Cine) -> tuple[np.ndarray, np.ndarray]:
    """A long-axis cine as a series of one slice.

    Args:
        cine: The slice.

    Returns:
        (T, X, Y, 1) and its RAS affine; z is SpacingBetweenSlices, else SliceThickness, else 1 mm.
    """
    depth = next((value for value in (cine.between, cine.thickness) if value is not None and value > 0), 1.0)
    affine = affine_from_lps(cine.position.tolist(), cine.directions, (*cine.spacing, depth))
    return cine.frames[..., None], affine


def stack(slices: Sequence[tuple[str, Cine]]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Puts slices together that agree in size, pixel size and orientation and lie at equal distances.

    Slices of another size, pixel size or orientation than most are left out, never zeroed. Of the others the longest
    run at equal distances is kept, in the given order; slices between that lie elsewhere are left out.

    Args:
        slices: (name, cine) in the order of the stack.

    Returns:
        (T, X, Y, Z), its RAS affine, and a sentence for each slice that was left out.

    Raises:
        CinemaError: If there is no slice, or one alone without a header that says how thick it is.
    """
    if not slices:
        raise CinemaError("there is no readable SAX slice")
    kept, warnings = _alike(list(slices))
    run, step = _longest_run([cine.position for _, cine in kept])
    warnings += [f"{name} is left out: it does not lie on the stack" for name, _ in _without(kept, run)]
    cines = [kept[index][1] for index in run]
    distance = _distance(cines, warnings)
    directions = cines[0].directions.copy()
    if step is not None:
        # The slices' own order decides which way z runs, and their positions decide its direction.
        directions[:, 2] = step / np.linalg.norm(step)
    affine = affine_from_lps(cines[0].position.tolist(), directions, (*cines[0].spacing, distance))
    return np.stack([cine.frames for cine in cines], axis=-1), affine, warnings


def _without(slices: list[tuple[str, Cine]], indices: Sequence[int]) -> list[tuple[str, Cine]]:
    return [item for index, item in enumerate(slices) if index not in set(indices)]


def _alike(slices: list[tuple[str, Cine]]) -> tuple[list[tuple[str, Cine]], list[str]]:
    keys = [(cine.frames.shape, tuple(round(value, 2) for value in cine.spacing)) for _, cine in slices]
    common = Counter(keys).most_common(1)[0][0]
    alike = [index for index, key in enumerate(keys) if key == common]
    warnings = [
        f"{slices[index][0]} is left out: frames and pixel size are {key}, of most {common}"
        for index, key in enumerate(keys)
        if key != common
    ]
    directions = [slices[index][1].directions for index in alike]
    groups = [
        [index for index, other in zip(alike, directions, strict=True) if _parallel(one, other)] for one in directions
    ]
    largest = max(groups, key=len)
    warnings += [
        f"{slices[index][0]} is left out: it is not parallel to the others" for index in alike if index not in largest
    ]
    return [slices[index] for index in largest], warnings


def _parallel(one: np.ndarray, other: np.ndarray) -> bool:
    return bool((np.sum(one * other, axis=0) > PARALLEL_COSINE).all())


def _longest_run(positions: list[np.ndarray]) -> tuple[list[int], np.ndarray | None]:
    """Indices of the longest equidistant run in order, and the mean step from slice to slice."""
    best: list[int] = [0]
    for index in range(len(positions) - 1):
        step = positions[index + 1] - positions[index]
        if np.linalg.norm(step) < MIN_STEP:
            continue
        for start in range(len(positions)):
            run = _run(positions, start, step)
            if len(run) > len(best):
                best = run
    if len(best) < 2:
        return best, None
    return best, (positions[best[-1]] - positions[best[0]]) / (len(best) - 1)


def _run(positions: list[np.ndarray], start: int, step: np.ndarray) -> list[int]:
    run, tolerance = [start], EQUIDISTANT * float(np.linalg.norm(step))
    for index in range(start + 1, len(positions)):
        if np.linalg.norm(positions[index] - positions[run[-1]] - step) <= tolerance:
            run.append(index)
    return run


def _distance(cines: list[Cine], warnings: list[str]) -> float:
    """Distance between slices: SpacingBetweenSlices, else from the first two positions, else the thickness."""
    first = cines[0]
    if len(cines) == 1:
        known = next((value for value in (first.between, first.thickness) if value is not None and value > 0), None)
        if known is None:
            raise CinemaError("there is one SAX slice, and its header has no SpacingBetweenSlices or SliceThickness")
        return known
    measured = float(np.linalg.norm(cines[1].position - first.position))
    if first.between is None or first.between <= 0:
        return measured
    if abs(first.between - measured) <= BELIEVED * measured:
        return first.between
    warnings.append(f"SpacingBetweenSlices says {first.between:g} mm, the positions {measured:.2f} mm: these are used")
    return measured
