"""What a published file of a classification says of its outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cinema_lightning.weights.kinds import PUBLISHED, Plain, PublishedKind

KNOWN = {
    ("classification_cvd", "acdc"): ["DCM", "HCM", "MINF", "NOR", "RV"],
    ("classification_cvd", "mnms"): ["DCM", "HCM", "NOR", "ARV", "HHD"],
    ("classification_cvd", "mnms2"): ["ARR", "CIA", "FALL", "HCM", "LV", "NOR"],
    ("classification_sex", "mnms"): ["M", "F"],
    ("classification_vendor", "mnms2"): ["GE MEDICAL SYSTEMS", "Philips Medical Systems", "SIEMENS"],
}


def _read(data: Plain, path: Path) -> dict[str, Any]:
    del path
    column = data.get("class_column")
    names = data.get(column) if column else None
    if not isinstance(names, list):
        return {}
    return {"target": str(column), "class_names": [str(name) for name in names]}


PUBLISHED.add(
    "classification",
    PublishedKind(
        write=lambda spec: {"class_column": spec["target"], spec["target"]: list(spec["classes"])},
        read=_read,
        task="classification",
        known={place: {"class_names": names} for place, names in KNOWN.items()},
    ),
)
