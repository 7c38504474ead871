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
_DENSE, _POOLED = "ConvUNetR", "ConvViT"
_FOLDERS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "segmentation": ("segmentation", "Segmentation", _DENSE, _EF),
    "classification_cvd": ("classification", "Classification", _POOLED, _EF),
    "classification_sex": ("classification", "Classification", _POOLED, ("mnms_sax",)),
    "classification_vendor": ("classification", "Classification", _POOLED, ("mnms2_sax", "mnms2_lax_4c")),
    "regression_ef": ("regression", "Regression", _POOLED, _EF),
    "regression_bmi": ("regression", "Regression", _POOLED, ("acdc_sax",)),
    "regression_age": ("regression", "Regression", _POOLED, ("mnms_sax",)),
    "landmark_heatmap": ("landmarks", "LandmarkHeatmap", _DENSE, ("lax_2c", "lax_4c")),
    "landmark_coordinate": ("landmarks", "LandmarkCoordinate", _POOLED, ("lax_2c", "lax_4c")),
}
"""Task folder -> kind, task, network, and what was trained on which view."""
_TARGETS = {"cvd": "pathology"}


def published_networks() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """The published networks.

    Yields:
        (name on the hub, of the first seed; task; network; facts of the data, as a checkpoint keeps them).
    """
    yield f"{HUB}/{PUBLISHED_MAE}", "Pretrain", "MaskedAutoencoder", _of_views(list(VIEWS), 1)
    for folder, (kind, task, network, places) in _FOLDERS.items():
        for place in places:
            name = f"{HUB}/finetuned/{folder}/{place}/{place}_{SEEDS[0]}.safetensors"
            yield name, task, network, {"kind": kind} | _facts(folder, place)


def _facts(folder: str, place: str) -> dict[str, Any]:
    view = next(view for view in VIEWS if place.endswith(view))
    dataset = place.removesuffix(view).rstrip("_") or "landmark"
    classes, target = published_outputs(folder, dataset)
    subject, _, column = folder.partition("_")
    of_study = bool(column) and subject != "landmark"
    facts = _of_views([view], 2 if of_study else 1) | {"dataset": dataset}
    facts["spacing"] |= {name: size for name, size in DATASETS[dataset].spacing.items() if name == view}
    if of_study:
        facts["target"] = target or _TARGETS.get(column, column)
    if subject == "landmark":
        facts["landmarks"] = ["hinge_1", "hinge_2", "apex"]
    if classes:
        facts["classes"] = classes
    return facts


def _of_views(views: list[str], channels: int) -> dict[str, Any]:
    return {
        "views": views,
        "channels": channels,
        "channel_names": ["image"] if channels == 1 else ["ED", "ES"],
        "input_size": {view: list(get_view(view).input_size) for view in views},
        "spacing": {view: list(get_view(view).spacing) for view in views},
    }
