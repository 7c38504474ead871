"""Draws the pictures of README.md from measured figures: cost against slices, and against the number of studies.

    python benchmarks/pictures.py [--results FOLDER] [--out FILE]

Reads depth.json, open_cohort.json and prepare.json as their scripts write them; measured/ holds those of the page.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cinema_lightning.palette import BLUE, GREEN, ORANGE

HERE = Path(__file__).parent
MADE_BY = ("depth", "open_cohort", "prepare")
UKB_DEPTH = "11"
"""Slices of a usual stack of UK Biobank."""


def read(folder: Path) -> dict[str, Any]:
    """What the scripts wrote."""
    missing = [name for name in MADE_BY if not (folder / f"{name}.json").is_file()]
    if missing:
        raise SystemExit(
            f"{folder} lacks {', '.join(missing)}: run python benchmarks/bench.py --only {' '.join(missing)}"
        )
    return {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in MADE_BY}


def note(axis: Axes, text: str, x: float, y: float, offset: tuple[int, int] = (6, -3)) -> None:
    """A number beside a point."""
    axis.annotate(text, (x, y), textcoords="offset points", xytext=offset, size=8)


def draw_depth(axis: Axes, rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Share of the cost at 16 slices."""
    for (name, found), colour in zip(rows.items(), (BLUE, ORANGE), strict=True):
        depths = sorted(map(int, found))
        ratios = [found[str(depth)]["ratio"] for depth in depths]
        axis.plot(depths, ratios, "o-", color=colour, label=name)
        for depth, ratio in zip(depths, ratios, strict=True):
            note(axis, f"{ratio:.2f}", depth, ratio, (-8, -14))
    axis.axline((0, 0), (16, 1), color="grey", linewidth=0.8, linestyle=":", label="in proportion")
    axis.set(xlabel="slices of the short-axis stack", ylabel="cost, of that at 16 slices", xlim=(5, 17), ylim=(0, 1.1))
    axis.legend(frameon=False, loc="lower right")


def draw_studies(axis: Axes, found: Mapping[str, Any]) -> None:
    """Core hours by the number of studies: opening is measured at each number, the others once and multiplied."""
    opened = {int(rows): row["all to the first batch"] / 3600 for rows, row in found["open_cohort"]["rows"].items()}
    studies = sorted(opened)
    each = {
        "an epoch of pretraining, base": found["depth"]["rows"]["pretraining step"][UKB_DEPTH]["core_seconds"] / 3600,
        "preparing from DICOM": found["prepare"]["ukb"]["core_seconds_per_study"] / 3600,
    }
    for (name, hours), colour, down in zip(each.items(), (BLUE, ORANGE), (0, -8), strict=True):
        axis.plot(studies, [n * hours for n in studies], "-", color=colour, label=name)
        note(axis, f"{studies[-1] * hours:.0f} h", studies[-1], studies[-1] * hours, (6, down))
    axis.plot(studies, [opened[n] for n in studies], "o-", color=GREEN, label="opening, to the first batch")
    note(axis, f"{3600 * opened[studies[-1]]:.1f} s", studies[-1], opened[studies[-1]])
    axis.set(
        xscale="log", yscale="log", xlabel="studies", ylabel="core hours", xlim=(studies[0] / 1.5, studies[-1] * 3)
    )
    axis.legend(frameon=False, loc="center left", fontsize=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=HERE / "measured", help="folder of the JSONs")
    parser.add_argument(
        "--out", type=Path, default=HERE.parent / "docs" / "benchmarks_cost.png", help="picture to write"
    )
    args = parser.parse_args()
    found = read(args.results)
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_depth(left, found["depth"]["rows"])
    draw_studies(right, found)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(args.out, dpi=110)
    print(f"{args.out} is drawn from {args.results}.")


if __name__ == "__main__":
    main()
