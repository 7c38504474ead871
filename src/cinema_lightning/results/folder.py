"""A folder of results: read, and finished with summary and pictures."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cinema_lightning.errors import CinemaError
from cinema_lightning.files import replacing

TEXT = ("id", "subject", "view", "phase")
KINDS = ("segmentation", "classification", "regression", "landmarks", "survival")


@dataclass
class Results:
    """What a test left.

    Attributes:
        folder: Where it lies.
        cases: One row per case.
        function: One row per study, where there is ventricular or long-axis function.
        validation: Cases of the validation subjects, for survival.
        facts: What test.json says.
    """

    folder: Path
    cases: pd.DataFrame
    function: pd.DataFrame | None
    validation: pd.DataFrame | None
    facts: dict[str, Any]

    @property
    def kind(self) -> str:
        """Kind of task."""
        return str(self.facts["kind"])

    def table(self, source: str) -> pd.DataFrame | None:
        """The table that a headline figure is made of."""
        return self.cases if source == "cases" else self.function


def read_results(folder: Path) -> Results:
    """Reads a folder of results, also of another tool.

    Args:
        folder: With ``cases.csv`` and ``test.json``; ``function.csv`` and ``validation.csv`` where they are.

    Returns:
        The results.

    Raises:
        CinemaError: If a file is missing or malformed; names file, column or row.
    """
    folder = Path(folder)
    facts = _facts(folder / "test.json")
    texts = ("true", "predicted") if facts["kind"] == "classification" else ()
    cases = read_table(folder / "cases.csv", texts)
    others = {name: folder / f"{name}.csv" for name in ("function", "validation")}
    tables = {name: read_table(path, texts) if path.is_file() else None for name, path in others.items()}
    results = Results(folder, cases, tables["function"], tables["validation"], facts)
    _check(results)
    return results


def read_table(path: Path, texts: tuple[str, ...] = ()) -> pd.DataFrame:
    """Reads a table of results; ids, subjects and class names are text, empty cells NaN (empty text for those).

    Raises:
        CinemaError: If it is missing, not a CSV table, or has no id.
    """
    if not path.is_file():
        raise CinemaError(f"There is no {path}; a folder of results holds cases.csv and test.json.")
    try:
        columns = list(pd.read_csv(path, nrows=0).columns)
        kinds = {name: str for name in (*TEXT, *texts) if name in columns}
        table = pd.read_csv(path, dtype=kinds)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, ValueError) as error:
        raise CinemaError(
            f"{path} is not a CSV table ({str(error).strip().splitlines()[0]}); write it again."
        ) from None
    if "id" not in table.columns:
        raise CinemaError(f"{path} has no column 'id'; each row of results is a case with its id.")
    empty = table.index[table["id"].isna()]
    if len(empty):
        raise CinemaError(f"{path}, row {int(empty[0]) + 2}: the id is empty; fill it or remove the row.")
    for name in ("subject", "view", "phase"):
        if name in table.columns:
            table[name] = table[name].fillna("")
    if "subject" not in table.columns:
        table["subject"] = table["id"]
    return table


def _facts(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CinemaError(f"There is no {path}, which says what kind of task it is; see docs/results.md.")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise CinemaError(f"{path} is not valid JSON ({error}); mend it.") from None
    if not isinstance(facts, dict) or facts.get("kind") not in KINDS:
        raise CinemaError(f"{path} has no known 'kind'; it is one of {', '.join(KINDS)}.")
    return facts


def _check(results: Results) -> None:
    """Refuses a table without the columns that its kind cannot do without."""
    facts, columns = results.facts, set(results.cases.columns)
    needed: dict[str, list[str]] = {
        "classification": ["true", *[f"prob_{name}" for name in facts.get("classes", [])]],
        "regression": ["true", "predicted"],
        "survival": ["time", "event", "risk"],
    }
    for name in needed.get(results.kind, []):
        if name not in columns:
            raise CinemaError(f"{results.folder / 'cases.csv'} has no column '{name}', which {results.kind} needs.")
    if results.kind == "classification" and len(facts.get("classes", [])) < 2:
        raise CinemaError(f"{results.folder / 'test.json'} lists no classes; give them in the order of the outputs.")
    numeric = {"regression": ["true", "predicted"], "survival": ["time", "event", "risk"]}.get(results.kind, [])
    for name in numeric:
        values = pd.to_numeric(results.cases[name], errors="coerce")
        wrong = results.cases.index[values.isna() & results.cases[name].notna()]
        if len(wrong):
            cell = results.cases[name].iloc[int(wrong[0])]
            raise CinemaError(
                f"{results.folder / 'cases.csv'}, row {int(wrong[0]) + 2}: '{cell}' in column {name} is not a number."
            )


def finish(folder: Path, seed: int = 0) -> list[dict[str, Any]]:
    """Writes summary.csv, summary.json, and pictures made of the tables.

    Args:
        folder: With the tables of a test.
        seed: Seed of the bootstrap.

    Returns:
        The headline rows.
    """
    from cinema_lightning.results.cox import write_cox
    from cinema_lightning.results.pictures import draw_all
    from cinema_lightning.results.summary import headline_rows, summary_rows

    results = read_results(folder)
    rows, headlines = summary_rows(results, seed), headline_rows(results, seed)
    skipped = draw_all(results, folder / "pictures", seed)
    if results.kind == "survival" and (reason := write_cox(results, folder / "cox.csv", seed)):
        skipped["cox"] = reason
    with replacing(folder / "summary.csv") as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)
    content = {"facts": results.facts, "headlines": headlines, "rows": rows, "skipped": skipped}
    with replacing(folder / "summary.json") as temporary:
        temporary.write_text(json.dumps(_plain(content), indent=2) + "\n", encoding="utf-8")
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
