"""``cinema phantom``: beating hearts with known truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from cinema_lightning.errors import CinemaError
from cinema_lightning.shards import Shard


def phantom(
    subjects: int = 24,
    out: Path = Path("phantom"),
    seed: int = 0,
    size: Literal["full", "small"] = "full",
    frames: int | None = None,
    workers: int = 1,
    missing_views: float = 0.0,
    picture: Path | None = None,
    shard: str | None = None,
    overwrite: bool = False,
    dataset: str | None = None,
    slice_distance: float | None = None,
    variety: float = 0.0,
) -> int:
    """Makes beating hearts with known truth, as prepared data: a store, a cohort table and landmarks.

    With ``--dataset NAME`` it makes them as that dataset's provider ships it instead, flaws included, for
    ``cinema prepare NAME``; the truth is in phantom_truth.csv beside it. A second run makes only what is missing. The
    same seed gives the same bytes, whatever the number of subjects, workers or shards.

    Args:
        subjects: Number of subjects; 24 are enough for each split and class of every dataset.
        out: Folder of the store or of the raw data; made where it is missing.
        seed: Seed of everything.
        size: full is 192 x 192 short axis at 1 x 1 x 10 mm and 256 x 256 long axis at 1 mm; small is 64 x 64 x 6 at
            3 mm and 64 x 64 at 4 mm, for tests. With a dataset, full is the usual resolution of its scanners, and
            small has pixels 2.5 times as large and eight slices.
        frames: Frames over the cardiac cycle; 50 for full and 8 for small if not given, or what the dataset has (6 for
            small). EMIDEC and MyoPS have one image per sequence whatever this says.
        workers: Processes that work in parallel.
        missing_views: Chance of each view to be missing, 0 to below 1.
        picture: Draw all views at ED and ES with contours into this PNG file instead of making a cohort.
        shard: I/N makes only part I (from 1) of N; the part that is ready last puts the table together.
        overwrite: Start anew in a folder that holds other phantoms.
        dataset: Write the raw layout of acdc, mnms, mnms2, kaggle, rescan, landmark, emidec, myops or ukb; or dicom:
            studies for cinema analyse, a folder each, of the same hearts that a store with the same seed has,
            but with an RV that pumps what the LV pumps.
        slice_distance: Distance between short-axis slices in mm, of which there are as many as the ventricle takes; if
            not given, 10 for full, and six slices spread over the ventricle for small.
        variety: How far hearts differ from each other beyond size, function and disease: outline, papillary muscles,
            trabeculae, RV, fat, and signal of blood and tissues; 0 (all look alike) to 1. For networks that are to
            work on real images.

    Returns:
        Exit code: 0, or 128 + number of the signal that stopped it.

    Raises:
        CinemaError: If an option has an impossible value, the folder holds something else, or the disk is full.
    """
    _check(subjects, workers, missing_views, frames, slice_distance, variety)
    part = Shard.parse(shard) if shard is not None else None
    if dataset is not None:
        given = {"--missing_views": missing_views, "--picture": picture, "--shard": shard}
        _refuse_with_dataset({**given, "--slice_distance": slice_distance, "--variety": variety})
        from cinema_lightning.phantom.raw.runner import make_raw, settings_for

        return make_raw(Path(out), settings_for(dataset, subjects, seed, size, frames), workers, overwrite=overwrite)
    if picture is not None:
        from cinema_lightning.phantom.picture import draw_picture

        draw_picture(Path(picture), seed, variety)
        return 0
    if overwrite and part is not None:
        raise CinemaError("--overwrite with --shard would delete what the other parts make; empty the folder first.")
    from cinema_lightning.phantom.cohort import FRAMES, Settings, make_cohort

    settings = Settings(seed, size, frames or FRAMES[size], missing_views, slice_distance, variety)
    return make_cohort(Path(out), subjects, settings, workers, shard=part, overwrite=overwrite)


def _refuse_with_dataset(options: dict[str, Any]) -> None:
    for name, value in options.items():
        if value:
            raise CinemaError(f"{name} does not go with --dataset; leave one of them out.")


def _check(
    subjects: int,
    workers: int,
    missing_views: float,
    frames: int | None,
    slice_distance: float | None,
    variety: float,
) -> None:
    if subjects < 1:
        raise CinemaError(f"--subjects must be at least 1, not {subjects}.")
    if workers < 1:
        raise CinemaError(f"--workers must be at least 1, not {workers}.")
    if not 0 <= missing_views < 1:
        raise CinemaError(f"--missing_views is a chance from 0 to below 1, not {missing_views}.")
    if not 0 <= variety <= 1:
        raise CinemaError(f"--variety is between 0 and 1, not {variety}.")
    if frames is not None and frames < 1:
        raise CinemaError(f"--frames must be at least 1, not {frames}.")
    if slice_distance is not None and not 3 <= slice_distance <= 30:
        raise CinemaError(f"--slice_distance is from 3 to 30 mm, not {slice_distance}.")
