"""A cohort made on demand, so that any configuration becomes self-contained with ``--config phantom.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lightning.pytorch.utilities import rank_zero_info


@dataclass
class PhantomCohort:
    """A phantom cohort to make where the data folder is missing.

    Args:
        subjects: Number of subjects.
        size: ``small`` for tests and laptops, ``full`` as the paper's images.
        frames: Frames per series; None takes the size's own number.
        seed: The same seed gives the same hearts.
        workers: Processes that render.
    """

    subjects: int = 24
    size: Literal["full", "small"] = "small"
    frames: int | None = None
    seed: int = 0
    workers: int = 2


def ensure_cohort(root: Path, cohort: PhantomCohort) -> None:
    """Makes the cohort where ``root`` has no table yet; what is there is kept.

    Args:
        root: Data folder of the run.
        cohort: What to make.
    """
    if (root / "cohort.csv").is_file():
        return
    if root.is_dir() and any(p for p in root.iterdir() if not p.name.startswith(".")) and not _is_phantom(root):
        return  # somebody's data without a table, such as a folder of NIfTI files
    from cinema_lightning.phantom.command import phantom

    rank_zero_info(f"Making a phantom cohort of {cohort.subjects} subjects in {root}.")
    phantom(
        subjects=cohort.subjects,
        out=root,
        seed=cohort.seed,
        size=cohort.size,
        frames=cohort.frames,
        workers=cohort.workers,
    )


def _is_phantom(root: Path) -> bool:
    return (root / "phantom.json").is_file()
