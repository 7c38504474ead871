"""Every column of cohort.csv, cases.csv and function.csv, once: what it is called, measured in and can be.

Here are those of every cohort. A dataset adds its own in ``Dataset.columns``, a plug-in with :func:`declare`; then
preparing, verify, describe, tests and the report's fairness section know them, too.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cinema_lightning.registry import Registry
from cinema_lightning.views import VIEWS


@dataclass(frozen=True)
class Column:
    """What is fixed about one column.

    Attributes:
        name: Name in the tables.
        display: Name in prose; the name with blanks where none is given.
        unit: Unit of its numbers.
        kind: A number; a code (a class that is written as a number); a class, whose name stays text though it may look
            like a number; or other text.
        range: Smallest and largest number of a living child or adult; one beyond is likelier a slip than a finding.
        values: The only cells that there can be; empty where any can.
        bands: Results are shown by groups of it: rising lower ends of all bands but the first, or () for its values.
        housekeeping: Whether it says nothing about the person or the scan.
        described: Whether ``cinema describe`` counts it or gives its mean.
        measured: Kind of task whose function.csv has it as ``<name>_true`` and ``<name>_pred``.
        sources: Columns that it follows from.
        formula: Takes the numbers of the sources.
    """

    name: str
    display: str = ""
    unit: str = ""
    kind: Literal["number", "code", "class", "text"] = "number"
    range: tuple[float, float] | None = None
    values: tuple[str, ...] = ()
    bands: tuple[float, ...] | None = None
    housekeeping: bool = False
    described: bool = True
    measured: str = ""
    sources: tuple[str, ...] = ()
    formula: Callable[..., float | None] | None = None

    def __post_init__(self) -> None:
        if not self.display:
            object.__setattr__(self, "display", self.name.replace("_", " "))

    @property
    def is_clinical(self) -> bool:
        """Whether it is a number that says something about the person or the scan."""
        return self.kind == "number" and not self.housekeeping

    @property
    def title(self) -> str:
        """Name and unit as a heading: ``BMI, kg/m²``."""
        unit = self.unit.replace("m2", "m²")
        return self.display[:1].upper() + self.display[1:] + (f", {unit}" if unit else "")

    def of(self, cells: Mapping[str, Any]) -> float | None:
        """The number that follows from other columns.

        Args:
            cells: Numbers of the sources, in their units.

        Returns:
            The number; None where a source is missing, or it is not defined (no volume at ED).
        """
        values = [cells.get(name) for name in self.sources]
        if self.formula is None or any(value is None for value in values):
            return None
        try:
            return self.formula(*values)
        except ZeroDivisionError:
            return None


def ejection_fraction(edv: Any, esv: Any) -> Any:
    """Ejection fraction in percent of volumes in ml, numbers or arrays; EDV is not 0."""
    return (edv - esv) / edv * 100


def body_mass_index(height: float, weight: float) -> float | None:
    """BMI in kg/m2 of metres and kilograms; a weight of 0 is none."""
    return weight / height**2 if weight else None


stroke_volume = operator.sub
"""EDV less ESV, ml, of numbers or arrays."""


def _function(side: str) -> tuple[Column, ...]:
    """Volumes of a ventricle and what follows from them."""
    name, volumes = side.upper(), (f"{side}_edv", f"{side}_esv")
    options: dict[str, Any] = {"measured": "segmentation"}
    return (
        Column(volumes[0], f"{name}EDV", "ml", range=(10, 700), **options),
        Column(volumes[1], f"{name}ESV", "ml", **options),
        Column(f"{side}_sv", f"{name}SV", "ml", sources=volumes, formula=stroke_volume, **options),
        Column(f"{side}_ef", f"{name}EF", "%", range=(0, 95), sources=volumes, formula=ejection_fraction, **options),
    )


BMI: dict[str, Any] = {"sources": ("height", "weight"), "formula": body_mass_index}


def _own(name: str, **options: Any) -> Column:
    return Column(name, housekeeping=True, **options)


def frames_column(view: str) -> str:
    """Column of the number of frames of a view's series; ``n_frames`` counts those that all views have."""
    return f"n_frames_{view}"


COHORT = (
    *(_own(name, kind="text") for name in ("id", "subject", "split")),
    _own("views", kind="class"),
    *(_own(name) for name in ("n_frames", "n_slices")),
    *(_own(frames_column(view), described=False) for view in VIEWS),
    *(_own(name, described=False) for name in ("ed_frame", "es_frame")),
    *(_own(f"n_slices_{what}", described=False) for what in ("read", "left_out", "filled")),
    _own("crop_centre", kind="text"),
    *(_own(f"orig_{view}_spacing_{axis}", unit="mm") for view in VIEWS for axis in "xyz"),
    *_function("lv"),
    *_function("rv"),
    Column("lv_mass", "LV mass", "g", range=(5, 600), measured="segmentation"),
    Column("age", unit="years", range=(0, 120), bands=(45, 55, 65, 75)),
    Column("sex", kind="class", values=("M", "F"), bands=()),
    Column("height", unit="m", range=(0.5, 2.5)),
    Column("weight", unit="kg", range=(3, 350)),
    # The WHO's bands: underweight, normal, overweight, obese.
    Column("bmi", "BMI", "kg/m2", range=(8, 90), bands=(18.5, 25, 30), **BMI),
    Column("pathology", kind="class"),
    Column("vendor", kind="class", bands=()),
    Column("centre", kind="class", bands=()),
    Column("field_strength", unit="T", kind="code"),
    Column("time", unit="days", range=(0, 40_000)),
    Column("event", kind="code", values=("0", "1")),
)
"""Columns of every cohort, in the order of the table."""
LONG_AXIS = (
    Column("mapse", "MAPSE", "mm", measured="landmarks"),
    Column("tapse", "TAPSE", "mm", measured="landmarks"),
    Column("long_axis_shortening", "Long-axis shortening", "%", measured="landmarks"),
)
FUNCTION = (_own("frames_left_out", kind="text", described=False),)
"""What function.csv says of a study beside its quantities."""


def body_surface_area(height: float, weight: float) -> float:
    """Body surface area in m2 of metres and kilograms (Mosteller 1987, 10.1056/NEJM198710223171717)."""
    return (height * 100 * weight / 3600) ** 0.5


def _index(name: str, unit: str, display: str) -> Column:
    """A measure by body surface area."""
    return Column(f"{name}_index", f"{display} by BSA", unit, sources=(name, "bsa"), formula=operator.truediv)


def _walls() -> tuple[Column, ...]:
    """Wall thickness and thickening in the 16 segments of the American Heart Association."""
    out: list[Column] = []
    for segment in range(1, 17):
        ed, es = (f"wall_thickness_{phase}_{segment:02d}" for phase in ("ed", "es"))
        out += [Column(ed, f"wall thickness at ED, segment {segment}", "mm", range=(2, 40))]
        out += [Column(es, f"wall thickness at ES, segment {segment}", "mm", range=(2, 50))]
        thickening = Column(
            f"wall_thickening_{segment:02d}",
            f"wall thickening, segment {segment}",
            "%",
            sources=(ed, es),
            formula=_rise,
        )
        out.append(thickening)
    return tuple(out)


def _rise(before: float, after: float) -> float:
    return (after - before) / before * 100


def _per_minute(stroke: float, rate: float) -> float:
    """Litres a minute of a stroke volume in ml."""
    return stroke * rate / 1000


ANALYSIS = (
    Column("heart_rate", "heart rate", "1/min", range=(25, 220)),
    Column("bsa", "BSA (Mosteller)", "m2", range=(0.2, 3.2), sources=("height", "weight"), formula=body_surface_area),
    Column("cardiac_output", unit="l/min", sources=("lv_sv", "heart_rate"), formula=_per_minute),
    Column("cardiac_index", unit="l/min/m2", sources=("cardiac_output", "bsa"), formula=operator.truediv),
    *(
        _index(f"{side}_{what}", "ml/m2", f"{side}{what}".upper())
        for side in ("lv", "rv")
        for what in ("edv", "esv", "sv")
    ),
    Column("lv_mass_es", "LV mass at ES", "g", range=(5, 600)),
    _index("lv_mass", "g/m2", "LV mass"),
    Column("peak_ejection_rate", unit="ml/s"),
    Column("peak_filling_rate", unit="ml/s"),
    *(Column(f"mapse_{wall}", f"MAPSE, {wall}", "mm") for wall in ("septal", "lateral", "anterior", "inferior")),
    *(Column(f"long_axis_strain_{view}", f"long-axis strain, {view.upper()}H", "%") for view in ("2c", "4c")),
    Column("long_axis_strain", "long-axis strain, mean", "%"),
    *_walls(),
)
"""Columns of an analysed study, after volumes, EF and mass."""
COVARIATES = ("age", "sex", "bmi", "lv_ef")
"""What a Cox model is given of a person beside the image."""
CASE = ("id", "frame", "view")
"""What makes a row of cases.csv one case, as far as there are such columns."""
IMAGES = ("id", "views", "n_frames", "ed_frame", "es_frame")
"""Columns of cohort.csv that say which images there are, and which of them are ED and ES."""
PREDICTIONS = ("predicted", "risk")
"""Columns of cases.csv that hold what a network says; others are called ``prob_...`` and ``..._pred``."""
SPREADS = ("_sd", "_agreement")
"""How the names of columns end that say how far several networks differ: their SD, the share that agrees."""
SCORES = ("_dice", "_iou", "_hd95", "_stability", "_distance_px", "_distance_mm")
"""How the names of a case's metrics end."""

# A look-up imports the datasets, and the plug-ins, which add theirs.
COLUMNS: Registry[Column] = Registry("column", "cinema_lightning.datasets")


def declare(*columns: Column) -> None:
    """Adds columns; one that is there already has to be the same.

    Raises:
        CinemaError: If another column has its name.
    """
    for column in columns:
        COLUMNS.add(column.name, column)


declare(*COHORT, *LONG_AXIS, *FUNCTION, *ANALYSIS)


def look_up(name: str) -> Column:
    """A column by name; one that nobody declared says nothing but its name."""
    if name in COLUMNS:
        return COLUMNS[name]
    return Column(name, kind="text", housekeeping=name.startswith("orig_"))


def texts() -> list[str]:
    """Columns whose cells stay text ("0012")."""
    return [column.name for column in COLUMNS.values() if column.kind in ("class", "text")]


def factors() -> list[Column]:
    """Columns by whose groups results are shown."""
    return [column for column in COLUMNS.values() if column.bands is not None]


def quantities(kind: str | None = None) -> list[Column]:
    """Columns of function.csv, of one kind of task or of all."""
    return [column for column in COLUMNS.values() if column.measured and kind in (None, column.measured)]


def is_measured(name: str) -> bool:
    """Whether a column of cases.csv holds a truth, a prediction or a metric: numbers, but for names of classes."""
    return name.startswith(("prob_", "mean_")) or name.endswith((*SCORES, "_true", "_pred")) or is_spread(name)


def is_prediction(name: str) -> bool:
    """Whether a column of cases.csv holds what a network says, and not how good that is."""
    return name in PREDICTIONS or (name.startswith("prob_") and not is_spread(name)) or name.endswith("_pred")


def spread_of(name: str) -> str:
    """Column of the standard deviation (n - 1) of several networks' numbers."""
    return name + SPREADS[0]


def agreement_of(name: str) -> str:
    """Column of the share of several networks that say the same class."""
    return name + SPREADS[1]


def is_spread(name: str) -> bool:
    """Whether a column of cases.csv says how far several networks differ."""
    base = next((name.removesuffix(end) for end in SPREADS if name.endswith(end)), "")
    return base in PREDICTIONS or base.startswith("prob_") or base.endswith("_pred")
