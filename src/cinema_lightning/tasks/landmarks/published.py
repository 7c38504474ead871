"""What a published file of landmarks says of its outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cinema_lightning.weights.kinds import PUBLISHED, Plain, PublishedKind


def _read(data: Plain, path: Path) -> dict[str, Any]:
    del path
    names = data.get("landmarks")
    return {"landmarks": [str(name) for name in names]} if isinstance(names, list) else {}


PUBLISHED.add(
    "landmarks",
    PublishedKind(
        write=lambda spec: {"landmarks": list(spec["landmarks"])},
        read=_read,
        folders=("landmark_heatmap", "landmark_coordinate"),
    ),
)
