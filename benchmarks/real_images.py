"""What a network that has seen phantoms only finds on real images: how lifelike the phantom is.

    python benchmarks/real_images.py --folder benchmarks/results/real_images --epochs 12

It makes phantoms and trains on them (both go on where they were stopped), then looks at the real studies in
$CINEMA_REAL: two with experts' contours of the LV (Dice, volumes and EF by the way of `cinema analyse`) and ED and ES
of two more. A picture for each is written beside. `--variety 0` trains on the usual phantoms instead; nothing of it is
committed.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cinema_lightning.analysis.networks import Networks, load_networks
from cinema_lightning.analysis.study import analyse_study
from cinema_lightning.analysis.values import LV, MYOCARDIUM, RV, Result
from cinema_lightning.files import replacing
from real_network import make_store, train
from real_studies import Expert, RealStudy, read_real

COLOURS = {RV: "deepskyblue", MYOCARDIUM: "gold", LV: "tomato"}
LEVELS, HALF = (0.2, 0.5, 0.8), 90.0
"""Slices that are drawn, as shares of the way through the LV, and half the width of the picture, mm."""


def look(study: RealStudy, networks: Networks) -> tuple[Result, dict[str, Any]]:
    """Analyses a study: the result, and a row of what was found beside what the expert found."""
    result = analyse_study(study.study, networks)
    told = [check.sentence for check in result.checks if check.verdict == "refuse"]
    row: dict[str, Any] = {"study": study.name, "quality": result.quality, "refused": told}
    found = result.segmented["sax"]
    # Whatever the gate says: volumes of the masks at ED and ES as they were chosen.
    for side, phases in found.phases.items():
        edv, esv = (float(found.volumes[side][frame]) for frame in (phases.ed, phases.es))
        row |= {f"{side}_ed_frame": phases.ed, f"{side}_es_frame": phases.es}
        row |= {f"{side}_edv": edv, f"{side}_esv": esv, f"{side}_ef": 100 * (1 - esv / edv)}
    if study.expert is not None:
        row |= {f"expert_{name}": value for name, value in study.expert.numbers.items()}
        row |= compare(found.labels, study.expert)
    return result, row


def compare(labels: np.ndarray, expert: Expert) -> dict[str, float]:
    """Dice of the whole stack at the expert's ED and ES, and of the slices that the expert drew on."""
    out = {}
    for number, (name, frame) in enumerate(zip(("ed", "es"), expert.frames, strict=True)):
        for kind, code in {"lv": LV, "myocardium": MYOCARDIUM}.items():
            one, other = labels[..., frame] == code, expert.labels[..., number] == code
            if not other.any():
                continue
            drawn = other.any(axis=(0, 1))
            out[f"dice_{kind}_{name}"] = dice(one, other)
            out[f"dice_{kind}_{name}_drawn"] = dice(one[..., drawn], other[..., drawn])
    return out


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Dice of two masks, not both empty."""
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def draw(path: Path, study: RealStudy, result: Result) -> None:
    """Image, expert and what was found, at ED and ES in three slices."""
    view, found = study.sax, result.segmented["sax"]
    phases = found.phases.get("lv")
    frames = study.expert.frames if study.expert else (phases.ed, phases.es) if phases else (0, view.n_frames - 1)
    known = study.expert.labels if study.expert else found.labels[..., list(frames)]
    levels = np.flatnonzero((known == LV).any(axis=(0, 1, 3)))
    levels = levels if levels.size else np.arange(view.frames.shape[2])
    slices = [int(levels[round(share * (len(levels) - 1))]) for share in LEVELS]
    middle = np.argwhere((known == LV).any(axis=(2, 3))).mean(axis=0) if (known == LV).any() else np.array([0, 0])
    panels = 3 if study.expert else 2
    figure = Figure(figsize=(2 * panels * len(slices), 4.3), layout="constrained")
    axes = figure.subplots(2, panels * len(slices), squeeze=False)
    for row, frame in enumerate(frames):
        for column, z in enumerate(slices):
            image = view.frames[:, :, z, frame]
            shown: list[np.ndarray | None] = [None, found.labels[:, :, z, frame]]
            if study.expert:
                shown.insert(1, study.expert.labels[:, :, z, row])
            titles = ["image", "expert", "found"] if study.expert else ["image", "found"]
            for panel, (title, labels) in enumerate(zip(titles, shown, strict=True)):
                axis = axes[row, panels * column + panel]
                _panel(axis, image, labels, middle, view.spacing)
                axis.set_title(f"{('ED', 'ES')[row]} slice {z} {title}", fontsize=7)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _panel(axis: Any, image: np.ndarray, labels: np.ndarray | None, middle: np.ndarray, spacing: Any) -> None:
    window = [
        slice(max(0, int(centre - HALF / size)), int(centre + HALF / size) + 1)
        for centre, size in zip(middle, spacing, strict=False)
    ]
    part = image[tuple(window)]
    axis.imshow(part.T, cmap="gray", vmin=0, vmax=np.percentile(part, 99), aspect=spacing[1] / spacing[0])
    for code, colour in COLOURS.items() if labels is not None else ():
        mask = labels[tuple(window)] == code
        if mask.any():
            axis.contour(mask.T, [0.5], colors=colour, linewidths=0.8)
    axis.set_axis_off()


def main() -> None:
    """Prints a line for each study and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("benchmarks/results/real_images"))
    parser.add_argument("--real", type=Path, default=os.environ.get("CINEMA_REAL", "../shared/real"))
    parser.add_argument("--weights", type=Path, default=None, help="a network that is there, instead of training one")
    parser.add_argument("--subjects", type=int, default=120, help="phantoms to learn from")
    parser.add_argument("--variety", type=float, default=1.0, help="how far they deviate from the usual look")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args()
    weights = given.weights
    if weights is None:
        name = f"variety_{given.variety:g}"
        make_store(given.folder / name, given.subjects, given.variety)
        weights = train(given.folder / "runs", given.folder / name, given.epochs, name)
    networks = load_networks([weights])
    rows = []
    for study in read_real(given.real):
        result, row = look(study, networks)
        rows.append(row)
        draw(given.folder / f"{weights.parent.parent.parent.name}_{study.name}.png", study, result)
        print({key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}, flush=True)
    if given.json:
        with replacing(given.json) as temporary:
            temporary.write_text(json.dumps({"weights": str(weights), "studies": rows}, indent=1))


if __name__ == "__main__":
    main()
