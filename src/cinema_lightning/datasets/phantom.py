"""Phantom: beating hearts with known truth, which ``cinema phantom --out DIR`` makes as a store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NoReturn

from cinema_lightning.datasets.base import CINE_LABELS, CaseRef, Dataset, dataset
from cinema_lightning.errors import CinemaError
from cinema_lightning.views import VIEWS


@dataset
class Phantom(Dataset):
    """Hearts made of formulas; their columns are those of every cohort table, and the truth beside."""

    name = "phantom"
    display = "phantom"
    source = "made by cinema phantom --out DIR"
    looked_for = "nothing: there are no raw files"
    views = tuple(VIEWS)
    labels = CINE_LABELS
    label_map: ClassVar[dict[int, int]] = {code: code for code in CINE_LABELS}
    crop = "none"
    classes: ClassVar[dict[str, tuple[str, ...]]] = {
        "pathology": ("NOR", "DCM", "HCM", "MINF", "ARV"),
        "sex": ("M", "F"),
        "vendor": ("GE", "Philips", "Siemens"),
    }
    splits = "drawn subject by subject with the seed"

    def cases(self, raw: Path) -> NoReturn:
        """See :meth:`Dataset.cases`; there is nothing to list."""
        raise CinemaError(
            "Phantoms need no preparation: cinema phantom --out DIR makes them as a store (and with --dataset NAME as "
            "raw data, for cinema prepare NAME)."
        )

    def read(self, case: CaseRef) -> NoReturn:
        """See :meth:`Dataset.read`; there is nothing to read."""
        self.cases(Path(case.id))

    def target_spacing(self, view: str, spacing: Sequence[float]) -> tuple[float, float, float]:
        """See :meth:`Dataset.target_spacing`; phantoms are made at the voxel size that their --size has."""
        return float(spacing[0]), float(spacing[1]), float(spacing[2])
