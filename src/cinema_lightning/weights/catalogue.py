"""The published networks: what lies on the hub, without asking it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cinema_lightning.datasets.base import DATASETS
from cinema_lightning.views import VIEWS, get_view
from cinema_lightning.weights.files import PUBLISHED_MAE
from cinema_lightning.weights.finetuned import published_outputs

HUB = "mathpluscode/CineMA"
SEEDS = (0, 1, 2)
"""Each was fine-tuned three times."""
_EF = ("acdc_sax", "mnms_sax", "mnms2_sax", "mnms2_lax_4c")
_FOLDERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "segmentation": ("segmentation", "Segmentation", _EF),
    "classification_cvd": ("classification", "Classification", _EF),
    "classification_sex": ("classification", "Classification", ("mnms_sax",)),
    "classification_vendor": ("classification", "Classification", ("mnms2_sax", "mnms2_lax_4c")),
    "regression_ef": ("regression", "Regression", _EF),
    "regression_bmi": ("regression", "Regression", ("acdc_sax",)),
    "regression_age": ("regression", "Regression", ("mnms_sax",)),
    "landmark_heatmap": ("landmarks", "LandmarkHeatmap", ("lax_2c", "lax_4c")),
    "landmark_coordinate": ("landmarks", "LandmarkCoordinate", ("lax_2c", "lax_4c")),
}
"""Task folder -> kind, task, and what was trained on which view."""
_TARGETS = {"cvd": "pathology"}


def published_networks() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """The published networks.

    Yields:
        (name on the hub, of the first seed; task; network; facts of the data, as a checkpoint keeps them).
    """
    yield f"{HUB}/{PUBLISHED_MAE}", "Pretrain", "MaskedAutoencoder", _of_views(list(VIEWS), 1)
    for folder, (kind, task, places) in _FOLDERS.items():
        for place in places:
            yield f"{HUB}/finetuned/{folder}/{place}/{place}_{SEEDS[0]}.safetensors", task, *_facts(folder, kind, place)


def _facts(folder: str, kind: str, place: str) -> tuple[str, dict[str, Any]]:
    """Name of the network, and its facts."""
    view = next(view for view in VIEWS if place.endswith(view))
    dataset = place.removesuffix(view).rstrip("_") or "landmark"
    dense = kind == "segmentation" or folder == "landmark_heatmap"
    classes, target = published_outputs(folder, dataset)
    column = folder.partition("_")[2]
    facts = _of_views([view], 1 if kind in ("segmentation", "landmarks") else 2) | {"kind": kind, "dataset": dataset}
    if kind == "landmarks":
        facts["landmarks"] = ["hinge_1", "hinge_2", "apex"]
    facts["spacing"] |= {name: size for name, size in DATASETS[dataset].spacing.items() if name == view}
    if kind in ("classification", "regression"):
        facts["target"] = target or _TARGETS.get(column, column)
    if classes:
        facts["classes"] = classes
    return "ConvUNetR" if dense else "ConvViT", facts


def _of_views(views: list[str], channels: int) -> dict[str, Any]:
    return {
        "views": views,
        "channels": channels,
        "channel_names": ["image"] if channels == 1 else ["ED", "ES"],
        "input_size": {view: list(get_view(view).input_size) for view in views},
        "spacing": {view: list(get_view(view).spacing) for view in views},
    }
