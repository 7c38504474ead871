"""Puts the pictures and the numbers of a finished demo into README: python docs/demo_pictures.py DEMO."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

from PIL import Image

HERE = Path(__file__).parent
STUDY = "phantom_00002"
WIDTH, HEIGHT = 760, 620
VERDICTS = {"pass": "the gate passes it", "warn": "the gate warns", "refuse": "the gate refuses it"}
TABLE = """
| | |
|---|---|
| ![A heart drawn from a quarter of it](docs/demo_reconstruction.png) | ![Held-out hearts](docs/demo_segmentation.png) |
| ![Ejection fraction](docs/demo_ef.png) | ![One study analysed: contours at ED](docs/demo_analysis.png) |
"""


def smaller(source: Path, name: str) -> None:
    """Copies a picture, no larger than the page needs."""
    image = Image.open(source).convert("RGB")
    image.thumbnail((WIDTH, HEIGHT))
    image.convert("P", palette=Image.Palette.ADAPTIVE).save(HERE / name, optimize=True)


def row_of(path: Path, study: str | None = None) -> dict[str, str]:
    """One row of a table: that of a study, else the first."""
    with path.open(encoding="utf-8", newline="") as file:
        return next(row for row in csv.DictReader(file) if study is None or row["id"] == study)


def figure(row: dict[str, Any], digits: int) -> str:
    """A figure, with its interval where there were subjects enough for one."""
    value, *ends = (f"{row[key]:.{digits}f}" for key in ("value", "low", "high") if row[key] is not None)
    return f"{value} [{', '.join(ends)}]" if ends else value


def sentences(demo: Path) -> str:
    """What this very run found."""
    rows = {row["metric"]: row for row in json.loads((demo / "test" / "summary.json").read_text("utf-8"))["headlines"]}
    found, truth = row_of(demo / "analysis" / "results.csv"), row_of(demo / "studies" / "phantom_truth.csv", STUDY)
    verdict = VERDICTS[found["quality"]]
    numbers = (
        f" finds an LVEF of {float(found['lv_ef']):.0f}% (true: {float(truth['lv_ef_true']):.0f}%) and an LVEDV of "
        f"{float(found['lv_edv']):.0f} ml ({float(truth['lv_edv_true']):.0f} ml);"
        if found["lv_ef"]
        else " gives no numbers:"
    )
    why = f" ({found['reasons'].rstrip('.')})" if found["reasons"] else ""
    return (
        f"The pictures are of its last run: {rows['mean_dice']['n_subjects']} phantom hearts that were never seen are "
        f"segmented with a Dice of {figure(rows['mean_dice'], 2)}, and their LVEF is "
        f"{figure(rows['lv_ef_mae'], 1)} points off on average. `cinema analyse` of one of them, as DICOM from a "
        f"scanner,{numbers} {verdict}{why}."
    )


def folded(text: str, width: int = 120) -> str:
    """A paragraph in lines."""
    lines = [""]
    for word in text.split():
        lines[-1:] = [f"{lines[-1]} {word}".strip()] if len(lines[-1]) + len(word) < width else [lines[-1], word]
    return "\n".join(lines)


def main(demo: Path) -> None:
    """Writes the pictures beside this file, and the numbers between the marks of README."""
    (drawn,) = (demo / "analysis").glob("*/sax_ed.png")
    sources = {
        "demo_reconstruction.png": min((demo / "reconstructions" / "pictures").glob("*/sax_frame00.png")),
        "demo_segmentation.png": demo / "test" / "pictures" / "overlays_sax.png",
        "demo_ef.png": demo / "test" / "pictures" / "lv_ef.png",
        "demo_analysis.png": drawn,
    }
    for name, source in sources.items():
        smaller(source, name)
    readme = HERE.parent / "README.md"
    text = readme.read_text(encoding="utf-8")
    new = f"<!-- demo: docs/demo_pictures.py writes this -->\n{folded(sentences(demo))}\n{TABLE}<!-- demo -->"
    text = re.sub(r"<!-- demo: .*?<!-- demo -->", lambda _: new, text, count=1, flags=re.DOTALL)
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
