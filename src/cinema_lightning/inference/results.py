"""What a network says of a scan: frozen values, by kind of task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from cinema_lightning.errors import CinemaError

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Result:
    """What any network says.

    Attributes:
        frames: Frames of the scan that were seen, T of them.
        rows: The rows that `cinema predict` would write, one per frame (one per study where a study is one answer).
    """

    frames: tuple[int, ...]
    rows: tuple[Mapping[str, Any], ...] = field(repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """The rows as a table."""
        import pandas as pd

        return pd.DataFrame([dict(row) for row in self.rows])


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Label maps of one view, on the scan's own grid.

    Attributes:
        labels: int16 (X, Y, Z, T), codes of the classes; Z = 1 for a long-axis image.
        affine: (4, 4) of the scan, voxel to RAS mm.
        classes: Code -> class.
        probabilities: float32 (classes, X, Y, Z, T), in the order of ``classes``; None where they were not asked for.
        spread: Of an ensemble, float32 (X, Y, Z, T): standard deviation (n - 1) over its networks of the probability
            of the voxel's class; None for a single network, or where probabilities were not asked for.
    """

    labels: np.ndarray
    affine: np.ndarray
    classes: Mapping[int, str]
    probabilities: np.ndarray | None = None
    spread: np.ndarray | None = None

    def save(self, path: str | Path) -> None:
        """Writes the label maps as NIfTI in the scan's geometry, (X, Y, Z) of one frame, (X, Y, Z, T) of several."""
        from cinema_lightning.output.images import write_nifti

        write_nifti(Path(path), self.labels[..., 0] if self.labels.shape[-1] == 1 else self.labels, self.affine)


class _ByView(Generic[T]):
    """Something of each view, and of the only one where there is one."""

    views: Mapping[str, T]

    def only(self) -> T:
        """That of the only view; CinemaError where there are several."""
        if len(self.views) != 1:
            raise CinemaError(f"The scan has the views {', '.join(self.views)}: say which, as in result.views['sax'].")
        return next(iter(self.views.values()))


@dataclass(frozen=True, eq=False)
class Segmented(Result, _ByView[LabelMap]):
    """Label maps, and the volume (ml) or area (cm2) of each region.

    Attributes:
        views: View -> its label maps.
        values: Region with view and unit, such as ``sax_lv_volume`` -> float64 (T,), in the unit of ``units``.
        units: The same names -> ml or cm2.
    """

    views: Mapping[str, LabelMap] = field(default_factory=dict)
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> np.ndarray:
        """Label maps of the only view, (X, Y, Z, T)."""
        return self.only().labels

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) of the only view's scan."""
        return self.only().affine

    @property
    def probabilities(self) -> np.ndarray | None:
        """Probabilities of the only view, (classes, X, Y, Z, T)."""
        return self.only().probabilities

    @property
    def spread(self) -> np.ndarray | None:
        """Spread of the only view, (X, Y, Z, T)."""
        return self.only().spread


@dataclass(frozen=True, eq=False)
class Landmarks(Result):
    """Places of landmarks.

    Attributes:
        views: View -> landmark -> float64 (T, 2), x and y in voxels of the scan, centres at integers.
        millimetres: View -> landmark -> float64 (T, 3), RAS mm of the scanner as the scan's affine has it.
    """

    views: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    millimetres: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Classified(Result):
    """The class of a study.

    Attributes:
        predicted: The likeliest class.
        probabilities: Class -> probability.
        agreement: Of an ensemble, share of its networks that say so; None for a single network.
    """

    predicted: str = ""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    agreement: float | None = None


@dataclass(frozen=True, eq=False)
class Value(Result):
    """A number of a study.

    Attributes:
        value: The number.
        spread: Of an ensemble, standard deviation (n - 1) over its networks; None for a single network.
        unit: Its unit.
        target: What it is, a column's name.
    """

    value: float = float("nan")
    spread: float | None = None
    unit: str = ""
    target: str = ""


@dataclass(frozen=True, eq=False)
class Risk(Result):
    """The risk of a study.

    Attributes:
        risk: Log-hazard; higher is worse. Only differences mean something.
        spread: As of :class:`Value`.
    """

    risk: float = float("nan")
    spread: float | None = None


def stacked(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """A column of rows as float64 (T,); NaN where a row says nothing."""
    return np.array([np.nan if row[name] is None else float(row[name]) for row in rows], dtype=np.float64)
