"""A folder of results finished: summary, pictures and further tables from those of a test."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from cinema_lightning.files import replacing
from cinema_lightning.results.folder import read_results
from cinema_lightning.results.kind import KINDS
from cinema_lightning.results.pictures import draw_all
from cinema_lightning.results.summary import COLUMNS, headline_rows, summary_rows, undefined_figures


def finish(folder: Path, seed: int = 0) -> list[dict[str, Any]]:
    """Writes summary.csv, summary.json, pictures made of the tables, and the kind's further tables.

    summary.json comes last: where it is, everything else is too.

    Args:
        folder: With the tables of a test.
        seed: Seed of what is drawn, such as folds.

    Returns:
        The headline rows.

    Raises:
        CinemaError: If a table is missing or malformed, or a file cannot be written.
    """
    folder = Path(folder)
    results = read_results(folder)
    headlines = headline_rows(results, seed)
    rows = summary_rows(results, seed, headlines)
    skipped = draw_all(results, folder / "pictures", seed)
    for name, write in KINDS[results.kind].tables.items():
        if reason := write(results, folder / f"{name}.csv", seed):
            skipped[name] = reason
    if reason := undefined_figures(results, headlines):
        skipped["figures"] = reason
    with replacing(folder / "summary.csv") as temporary:
        pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(temporary, index=False)
    content = {"facts": results.facts, "headlines": headlines, "rows": rows, "skipped": skipped}
    with replacing(folder / "summary.json") as temporary:
        temporary.write_text(json.dumps(_plain(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return headlines


def _plain(value: Any) -> Any:
    """Plain values, with null for what is not defined."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
