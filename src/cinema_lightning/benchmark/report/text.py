"""The tables as LaTeX (booktabs), Markdown and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from cinema_lightning.benchmark.report.blocks import DIGITS, MINUS, Cell, Table

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "≥": r"$\geq$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "–": "--",
    "²": r"$^2$",
    "Δ": r"$\Delta$",
    "†": r"$^\dagger$",
    MINUS: "$-$",
}


def latex(table: Table) -> str:
    """A LaTeX table; needs the packages booktabs, and longtable's freedom is not used."""
    columns = "l" * table.left + "r" * (len(table.header) - table.left)
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_tex(table.caption)}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(_tex(title) for title in table.header) + r" \\",
        r"\midrule",
        *(_latex_row(row, table) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\footnotesize {_tex(note)}" for note in table.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_row(row: Sequence[Cell | str], table: Table) -> str:
    if len(row) == 1:
        return rf"\multicolumn{{{len(table.header)}}}{{l}}{{\textbf{{{_tex(_text(row[0]))}}}}} \\"
    return " & ".join(_latex_cell(cell) for cell in row) + r" \\"


def _latex_cell(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return _tex(cell)
    text = rf"\textbf{{{_tex(cell.text)}}}" if cell.bold else _tex(cell.text)
    text = rf"\textit{{{text}}}" if cell.muted and cell.text != "–" else text
    return rf"{text} {{\footnotesize ({_tex(cell.small)})}}" if cell.small else text


def _tex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)


def _text(cell: Cell | str) -> str:
    return cell if isinstance(cell, str) else cell.text


def markdown(table: Table) -> str:
    """A Markdown table with its caption and notes."""
    rule = ["---" if place < table.left else "---:" for place in range(len(table.header))]
    rows = [_markdown_row(row, len(table.header)) for row in table.rows]
    lines = [f"**{_pipe(table.caption)}**", "", _joined([_pipe(title) for title in table.header]), _joined(rule), *rows]
    notes = [line for note in table.notes for line in ("", note)]
    return "\n".join([*lines, *notes]) + "\n"


def _markdown_row(row: Sequence[Cell | str], width: int) -> str:
    cells = [_markdown_cell(cell) for cell in row]
    return _joined([*cells, *[""] * (width - len(cells))])


def _markdown_cell(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return _pipe(cell)
    text = (
        f"**{_pipe(cell.text)}**"
        if cell.bold
        else f"*{_pipe(cell.text)}*"
        if cell.muted and cell.text != "–"
        else _pipe(cell.text)
    )
    return f"{text} ({_pipe(cell.small)})" if cell.small else text


def _pipe(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;")


def _joined(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def csv_text(records: Sequence[dict[str, Any]]) -> str:
    """A CSV of records that share their keys; empty where a number is not defined."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in record.items()} for record in records)
    return buffer.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}" if math.isfinite(value) else ""
    return "" if value is None else value
