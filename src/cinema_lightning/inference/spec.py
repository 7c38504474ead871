"""What a network is for, what it needs and what it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cinema_lightning.columns import look_up
from cinema_lightning.views import Depth


@dataclass(frozen=True)
class ModelSpec:
    """Facts of a network.

    Attributes:
        kind: Kind of task: segmentation, landmarks, classification, regression, survival, or pretraining.
        task: Class of the task.
        network: Class of the network.
        source: Where it was loaded from; of an ensemble, all places.
        views: Views that it knows; any of them may be given.
        spacing: View -> voxel size in mm that scans are brought to; None keeps the scan's own.
        input_size: View -> voxels that it sees at once.
        depth: Whether stacks of fewer slices than that go through it as they are (own) or padded with zeros (padded).
        channels: What the channels of an image are: one image, ED and ES, or sequences.
        classes: Code in label maps (of a segmentation) or number of the output -> class; empty for none.
        target: Column that it predicts, such as lv_ef; empty for none.
        unit: Unit of the target.
        landmarks: Landmarks that it finds.
        trained_on: Dataset that it was trained on; empty where that is not known.
        n_train: Samples that it was trained on; None where that is not known.
        phantoms: Whether it, or one of an ensemble, was trained on phantoms only; false where that is not known.
    """

    kind: str
    task: str
    network: str
    source: tuple[str, ...]
    views: tuple[str, ...]
    spacing: Mapping[str, tuple[float, ...] | None]
    input_size: Mapping[str, tuple[int, ...]]
    depth: Depth = "padded"
    channels: tuple[str, ...] = ("image",)
    classes: Mapping[int, str] = field(default_factory=dict)
    target: str = ""
    unit: str = ""
    landmarks: tuple[str, ...] = ()
    trained_on: str = ""
    n_train: int | None = None
    phantoms: bool = False


def spec_of(
    facts: Mapping[str, Any],
    task: str,
    network: str,
    source: Sequence[str],
    spacing: Mapping[str, Sequence[float] | None] | None = None,
) -> ModelSpec:
    """The facts of a network, from those of the data that it was trained on.

    Args:
        facts: What its checkpoint keeps of the data (``spec``).
        task: Class of the task.
        network: Class of the network.
        source: Where it came from.
        spacing: View -> voxel size that scans are brought to; by default as the data's facts say.

    Returns:
        Its facts.
    """
    names = list(facts.get("classes") or ())
    codes = facts.get("label_codes") or range(len(names))
    target = str(facts.get("target") or "")
    channels = facts.get("channel_names") or [f"channel {i}" for i in range(facts["channels"])]
    sizes = spacing or facts.get("spacing") or {}
    return ModelSpec(
        kind=str(facts.get("kind") or "pretraining"),
        task=task,
        network=network,
        source=tuple(source),
        views=tuple(facts["views"]),
        spacing={view: None if size is None else tuple(size) for view, size in sizes.items()},
        input_size={view: tuple(size) for view, size in facts["input_size"].items()},
        depth=facts.get("depth") or "padded",
        channels=("image",) if facts["channels"] == 1 else tuple(channels),
        classes=dict(zip((int(code) for code in codes), names, strict=True)),
        target=target,
        unit=look_up(target).unit if target and not names else "",
        landmarks=tuple(facts.get("landmarks") or ()),
        trained_on=str(facts.get("dataset") or ""),
        n_train=facts.get("n_train"),
        phantoms=bool(facts.get("phantoms")),
    )
