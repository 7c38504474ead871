"""What a published file of a segmentation says of its outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cinema_lightning.datasets.base import CINE_LABELS
from cinema_lightning.errors import CinemaError
from cinema_lightning.weights.kinds import PUBLISHED, Plain, PublishedKind


def _read(data: Plain, path: Path) -> dict[str, Any]:
    labels = data.get("labels")
    if not isinstance(labels, dict):
        return {}
    if not all(isinstance(code, int) for code in labels):
        raise CinemaError(f"{path} has data.labels that are no numbers; write them as 0: background, 1: ...")
    return {"class_names": [str(name) for name in labels.values()], "label_codes": list(labels)}


PUBLISHED.add(
    "segmentation",
    PublishedKind(
        write=lambda spec: {"labels": dict(zip(spec["label_codes"], spec["classes"], strict=True))},
        read=_read,
        task="segmentation",
        dense=True,
        known={
            ("segmentation", name): {"class_names": list(CINE_LABELS.values())} for name in ("acdc", "mnms", "mnms2")
        },
    ),
)
