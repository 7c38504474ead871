"""Numbers and warnings as a DICOM structured report (TID 1500), not verified and not final: for research."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version as version_of
from typing import Any

import highdicom
from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from cinema_lightning.analysis.dicom_seg import MAKER, SERIES_NUMBERS
from cinema_lightning.analysis.values import Interval, Reference, Result
from cinema_lightning.columns import look_up
from cinema_lightning.errors import CinemaError

LEFT, RIGHT = Code("87878005", "SCT", "Left ventricle"), Code("53085002", "SCT", "Right ventricle")
OWN = "99CINEMA"
# Column -> concept; what has no code of its own in the standard gets one of ours, named after the column.
CONCEPTS = {
    "lv_edv": Code("8821-1", "LN", "Left Ventricular End Diastolic Volume"),
    "lv_esv": Code("8823-7", "LN", "Left Ventricular End Systolic Volume"),
    "lv_ef": Code("8811-2", "LN", "Left Ventricular Ejection Fraction by MR"),
    "lv_sv": Code("90096001", "SCT", "Stroke volume"),
    "lv_mass": Code("18087-7", "LN", "Left Ventricle Mass"),
    "rv_edv": Code("8822-9", "LN", "Right Ventricular End Diastolic Volume"),
    "rv_esv": Code("8824-5", "LN", "Right Ventricular End Systolic Volume"),
    "rv_ef": Code("8818-7", "LN", "Right Ventricular Ejection Fraction by MR"),
    "rv_sv": Code("429483009", "SCT", "Right ventricular stroke volume"),
    "cardiac_output": Code("82799009", "SCT", "Cardiac output"),
    "cardiac_index": Code("54993008", "SCT", "Cardiac index"),
    "heart_rate": Code("8867-4", "LN", "Heart rate"),
}
UCUM = {"1/min": "{H.B.}/min", "m2": "m2", "l/min": "l/min", "l/min/m2": "l/min/m2"}
LOW = Code("371918003", "SCT", "Lower limit of normal (two-sigma)")
HIGH = Code("371920000", "SCT", "Upper limit of normal (two-sigma)")
Z = Code("121416", "DCM", "Z-score of measurement")


def report(result: Result, evidence: Sequence[Dataset], version: str) -> Dataset:
    """The numbers of a study.

    Args:
        result: The study, with numbers.
        evidence: Segmentations and images that they were measured on.
        version: Version of this program.

    Returns:
        The object, with the patient and study of its evidence.

    Raises:
        CinemaError: If the study was refused, so that there are no numbers.
    """
    numbers = {name: value for name, value in result.measured.numbers.items() if value is not None}
    groups = [group for side, site in (("lv", LEFT), ("rv", RIGHT)) if (group := _group(side, site, numbers, result))]
    if result.quality == "refuse" or not groups:
        raise CinemaError("the study has no numbers, so that there is no report of them.")
    # Other numbers of the same images are another report.
    said = repr((numbers, result.references, result.intervals, result.reasons))
    how = "automatic, corrected" if result.corrections else "automatic"
    entropy = [str(evidence[0].SOPInstanceUID), "report", version, said, *["corrected"] * bool(result.corrections)]
    how += ", with warnings" if result.reasons else ""
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=generate_uid(entropy_srcs=[MAKER, version]), name=MAKER, manufacturer_name=MAKER, model_name=version[:64]
    )
    context = sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, device))
    content = sr.MeasurementReport(
        observation_context=context,
        procedure_reported=Code("241620005", "SCT", "MRI of heart"),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    content[0].ContentSequence.extend(_comment(reason) for reason in result.reasons)
    return sr.EnhancedSR(
        evidence=list(evidence),
        content=content[0],
        series_instance_uid=generate_uid(entropy_srcs=[*entropy, "series"]),
        series_number=SERIES_NUMBERS["report"],
        sop_instance_uid=generate_uid(entropy_srcs=[*entropy, "instance"]),
        instance_number=1,
        manufacturer=MAKER,
        is_complete=False,
        is_final=False,
        is_verified=False,
        series_description=f"Cardiac function ({how}, research)",
    )


def _comment(sentence: str) -> sr.TextContentItem:
    """What the gate warns of, beside the numbers."""
    return sr.TextContentItem(codes.DCM.Comment, sentence, relationship_type=sr.RelationshipTypeValues.CONTAINS)


def _is_reported(name: str) -> bool:
    """Whether a number goes into the report: one of function, with a unit; the walls' are in the tables."""
    return bool(look_up(name).unit) and not name.startswith(("wall_", "height", "weight"))


def _group(side: str, site: Code, numbers: Mapping[str, float], result: Result) -> Any:
    """All numbers of a ventricle; what belongs to neither, such as the heart rate, goes with the left one."""
    mine = [name for name in numbers if _is_reported(name) and name.startswith("rv") == (side == "rv")]
    if not mine:
        return None
    ranges = {reference.column: reference for reference in result.references}
    intervals = {interval.column: interval for interval in result.intervals if interval.valid}
    measurements = [_measurement(name, numbers[name], site, ranges.get(name), intervals.get(name)) for name in mine]
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(generate_uid(entropy_srcs=[result.study.key, side]), site.meaning),
        finding_sites=[sr.FindingSite(site)],
        measurements=measurements,
    )


def _measurement(name: str, value: float, site: Code, ranged: Reference | None, interval: Interval | None) -> Any:
    column = look_up(name)
    unit = _unit(column.unit)
    concept = CONCEPTS.get(name) or Code(own_code(name), OWN, column.display[:64])
    options: dict[str, Any] = {}
    if ranged is not None:
        limits = [_number(kind, limit, unit) for kind, limit in ((LOW, ranged.low), (HIGH, ranged.high))]
        options["normal_range_properties"] = sr.NormalRangeProperties(limits, authority=ranged.source[:64])
        if ranged.z is not None:
            score = _number(Z, ranged.z, Code("1", "UCUM", "no units"))
            options["measurement_statistical_properties"] = sr.MeasurementStatisticalProperties([score])
    if interval is not None:
        options["lower_measurement_uncertainty"] = round(value - interval.low, 4)
        options["upper_measurement_uncertainty"] = round(interval.high - value, 4)
    properties = sr.MeasurementProperties(**options) if options else None
    return sr.Measurement(concept, round(value, 4), unit, finding_sites=[sr.FindingSite(site)], properties=properties)


def own_code(name: str) -> str:
    """The code of a column that the standard has none for; a code has 16 characters at most."""
    return name.replace("long_axis_strain", "las").replace("peak_", "").upper()[:16]


def _number(name: Code, value: float, unit: Code) -> sr.NumContentItem:
    return sr.NumContentItem(name, round(value, 4), unit, relationship_type=sr.RelationshipTypeValues.HAS_PROPERTIES)


def _unit(unit: str) -> Code:
    code = UCUM.get(unit, unit)
    return Code(code, "UCUM", unit)


def versions() -> str:
    """Name and version of what writes."""
    return f"{version_of('cinema-lightning')} highdicom {highdicom.__version__}"
