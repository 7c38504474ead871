"""Pictures of the best, the median and the worst cases of a test: contours on all slices, landmarks on planes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from lightning import Trainer
from torch import Tensor

from cinema_lightning.callbacks.pictures import show_image, show_points
from cinema_lightning.data.protocol import data_of
from cinema_lightning.files import replacing
from cinema_lightning.palette import REGIONS
from cinema_lightning.results.kind import KINDS, Ranking
from cinema_lightning.tasks.base import Marked, Task
from cinema_lightning.views import get_view

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SLICES = 6
"""Slices of a stack that are shown."""


def ranked(cases: pd.DataFrame, ranking: Ranking, count: int) -> dict[str, pd.DataFrame]:
    """The best, median and worst cases, per view.

    Args:
        cases: The table of cases.
        ranking: By which column.
        count: Cases of each.

    Returns:
        Title -> rows; without truth, the first cases.
    """
    column, smaller = ranking.column, ranking.smaller_is_better
    known = cases.dropna(subset=[column]) if column in cases else cases.iloc[:0]
    if known.empty:
        return {"first": cases.head(3 * count)}
    order = known.sort_values([column, "id", "frame"], ascending=[smaller, True, True], kind="stable")
    count = min(count, max(1, len(order) // 3))
    middle = (len(order) - count) // 2
    parts = {"best": order.head(count), "median": order.iloc[middle : middle + count], "worst": order.tail(count)}
    seen: set[Any] = set()
    out = {}
    for title, rows in parts.items():
        out[title] = rows[~rows.index.isin(seen)]
        seen |= set(rows.index)
    return {title: rows for title, rows in out.items() if len(rows)}


def draw_cases(
    folder: Path, cases: pd.DataFrame, facts: dict[str, Any], trainer: Trainer, task: Task, count: int
) -> None:
    """Draws overlays into ``overlays_<view>.png``.

    Args:
        folder: Where to.
        cases: The table of cases.
        facts: Facts of the test.
        trainer: Has the data.
        task: Has the network, in evaluation mode.
        count: Cases of the best, the median and the worst each.
    """
    ranking = KINDS[facts["kind"]].ranking(facts)
    if ranking is None:
        return
    data = data_of(trainer)
    task.eval()
    for view, part in cases.groupby("view", sort=False):
        chosen = ranked(part, ranking, count)
        lines = [(title, row) for title, rows in chosen.items() for row in rows.to_dict("records")]
        keys = [(str(row["id"]), int(row["frame"])) for _, row in lines]
        batches = list(data.batches_of(keys, task.device))
        _draw(folder / f"overlays_{view}.png", str(view), ranking, lines, batches, task)


def _draw(path: Path, view: str, ranking: Ranking, lines: list[Any], batches: list[Any], task: Task) -> None:
    from matplotlib.figure import Figure

    flat = get_view(view).is_long_axis
    columns = 1 if flat else SLICES
    rows = len(lines)
    if flat:  # planes side by side
        columns, rows = min(3, len(lines)), -(-len(lines) // 3)
    figure = Figure(figsize=(2.1 * columns + 1.0, 2.3 * rows + 0.8), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for place, ((title, row), batch) in enumerate(zip(lines, batches, strict=True)):
        panels = task.panels(batch, task.infer(batch)).get(view)
        if panels is None:
            continue
        text = _title(title, row, ranking)
        size = [int(n) for n in batch[f"{view}_size"][0]]
        if flat:
            axis = axes[place // 3][place % 3]
            _plane(axis, panels, size, None)
            axis.set_title(text, fontsize=8)
            continue
        for number, axis in zip(_slices(panels, size), axes[place], strict=False):
            _plane(axis, panels, size, number)
            axis.set_title(f"slice {number}", fontsize=7)
        axes[place][0].set_title("")  # titles in the middle and at the left are two
        axes[place][0].set_title(text + f"\nslice {_slices(panels, size)[0]}", fontsize=7, loc="left")
    figure.suptitle(f"{get_view(view).display}: {ranking.legend}", fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _title(title: str, row: dict[str, Any], ranking: Ranking) -> str:
    phase = f" {row['phase']}" if isinstance(row.get("phase"), str) and row["phase"] else f" frame {row['frame']}"
    text = f"{title}: {row['id']}{phase}"
    value = row.get(ranking.column)
    return text + (f", {ranking.text.format(value)}" if value is not None and value == value else "")


def _slices(panels: dict[str, Any], size: list[int]) -> list[int]:
    """Slices that show something, evenly spaced over the extent of the labels."""
    labels = panels.get("truth", panels["prediction"])[0][..., : size[2]]
    found = np.flatnonzero(labels.flatten(0, 1).any(dim=0).cpu().numpy())
    first, last = (int(found[0]), int(found[-1])) if len(found) else (0, size[2] - 1)
    return sorted(set(np.linspace(first, last, SLICES).round().astype(int).tolist()))


def _plane(axis: Axes, panels: dict[str, Any], size: list[int], number: int | None) -> None:
    def cut(values: Tensor) -> Tensor:
        values = values[0][tuple(slice(n) for n in size)]
        return values if number is None else values[..., number]

    show_image(axis, cut(panels["image"]))
    for content in panels.values():
        if isinstance(content, Marked):
            show_points(axis, {name: points[0] for name, points in content.points.items()})
    for name, style in (("truth", "dashed"), ("prediction", "solid")):
        if name in panels:
            _contours(axis, cut(panels[name]), style)


def _contours(axis: Axes, labels: Tensor, style: str) -> None:
    codes = labels.cpu().numpy().T
    for code in np.unique(codes[codes > 0]):
        mask = torch.from_numpy((codes == code).astype(np.float32)).numpy()
        colour = REGIONS[int(code) % len(REGIONS)]
        axis.contour(mask, levels=[0.5], colors=[colour], linestyles=style, linewidths=1.0)
