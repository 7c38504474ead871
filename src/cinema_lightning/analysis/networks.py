"""The networks of an analysis: which is for the masks of which view, and which for landmarks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cinema_lightning.analysis.calibration import Calibration, calibration_beside
from cinema_lightning.analysis.segment import Network
from cinema_lightning.errors import CinemaError
from cinema_lightning.views import VIEWS

DEFAULT = "mathpluscode/CineMA/finetuned/segmentation/mnms2_sax/mnms2_sax_0.safetensors"
"""The published segmentation of the short axis that was fine-tuned on M&Ms-2."""


@dataclass(frozen=True)
class Networks:
    """What is there to look with.

    Attributes:
        masks: View -> network that segments it, or an ensemble.
        points: View -> network that finds its landmarks.
        digests: ``weights_1`` and so on -> name and SHA-256 of the file, so that a result says what made it.
        calibration: Of the networks of the short axis, where they were calibrated.
        by_phantoms: Views for which a network was trained on phantoms only.
    """

    masks: Mapping[str, Network] = field(default_factory=dict)
    points: Mapping[str, Network] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    calibration: Calibration | None = None
    by_phantoms: frozenset[str] = frozenset()


def load_networks(weights: Sequence[str | Path]) -> Networks:
    """Loads networks and finds out what each is for.

    Args:
        weights: Published names, runs, or files; several segmentations of one view are an ensemble.

    Returns:
        The networks.

    Raises:
        CinemaError: If one cannot be loaded, is for another kind of task, or two find landmarks of one view.
    """
    from cinema_lightning.inference.load import load
    from cinema_lightning.inference.model import Model

    single = {str(name): load(name) for name in weights}
    kinds: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for name, model in single.items():
        if model.spec.kind not in ("segmentation", "landmarks") or model.spec.channels != ("image",):
            raise CinemaError(
                f"{name} is for {model.spec.kind} of {' and '.join(model.spec.channels)}; an analysis takes networks "
                "for segmentation and landmarks of single frames."
            )
        kinds.setdefault((model.spec.kind, model.spec.views), []).append(name)
    found: dict[str, dict[str, Model]] = {"segmentation": {}, "landmarks": {}}
    for (kind, views), names in kinds.items():
        model = single[names[0]] if len(names) == 1 else load(names)
        for view in views:
            if view in found[kind]:
                raise CinemaError(f"{names[0]} and other --weights are both for {kind} of {view}: leave one out.")
            found[kind][view] = model
    if not found["segmentation"]:
        raise CinemaError("none of the --weights segments: give one for the short axis first.")
    files = [Path(source) for model in single.values() for source in model.spec.source]
    digests = {f"weights_{number}": _digest(path) for number, path in enumerate(files, start=1)}
    masks, points = ({view: own[view] for view in VIEWS if view in own} for own in found.values())
    sources = [Path(source) for source in found["segmentation"]["sax"].spec.source] if "sax" in masks else []
    unreal = frozenset(view for own in found.values() for view, model in own.items() if model.spec.phantoms)
    return Networks(masks, points, digests, calibration_beside(sources), unreal)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"{path.name} sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
