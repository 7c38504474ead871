"""One renderer: the page of sections, and LaTeX, Markdown and CSV of their tables, from the templates beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from cinema_lightning.benchmark.report.table import DIGITS, MINUS, Section, Table

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment

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
    "±": r"$\pm$",
    "²": r"$^2$",
    "†": r"$^\dagger$",
    MINUS: "$-$",
}


def page(
    title: str, lead: Sequence[str], sections: Sequence[Section], footer: str, warnings: Sequence[str] = ()
) -> str:
    """HTML of a report.

    Args:
        title: Its heading.
        lead: Sentences below it.
        sections: Sections in their order; empty ones become one line at the end.
        footer: Last line.
        warnings: Sentences that are set off above all sections.

    Returns:
        A whole document that needs no other file.
    """
    values = {"title": title, "lead": lead, "sections": sections, "footer": footer, "warnings": warnings}
    return _html().get_template("page.html").render(values)


def latex(table: Table) -> str:
    """A LaTeX table; needs the package booktabs."""
    return _tex().get_template("table.tex").render(table=table, header=table.header)


def markdown(table: Table) -> str:
    """A Markdown table with its caption and notes."""
    return _markdown().get_template("table.md").render(table=table, header=table.header)


def csv(data: pd.DataFrame) -> str:
    """A CSV; empty where a number is not defined."""
    import pandas as pd

    plain = {
        str(name): data[name].map(lambda value: str(value).lower())
        for name in data
        if pd.api.types.is_bool_dtype(data[name])
    }
    return data.assign(**plain).to_csv(index=False, float_format=f"%.{DIGITS}g", lineterminator="\n")


@cache
def _html() -> Environment:
    from markupsafe import Markup

    environment = _environment(autoescape=True)
    environment.filters["svg"] = Markup
    return environment


@cache
def _tex() -> Environment:
    from markupsafe import Markup

    marks: dict[str, Any] = {"block_start_string": "<%", "block_end_string": "%>", "comment_start_string": "<#"}
    environment = _environment(_escaped(_LATEX), variable_start_string="<<", variable_end_string=">>", **marks)
    environment.filters["plain"] = Markup
    return environment


@cache
def _markdown() -> Environment:
    return _environment(_escaped({"|": r"\|", "<": "&lt;"}))


def _escaped(marks: dict[str, str]) -> Callable[[Any], str]:
    """Escapes whatever a template writes, but for what it calls plain."""
    from markupsafe import Markup

    table = str.maketrans(marks)
    return lambda value: str(value) if isinstance(value, Markup) else str(value).translate(table)


def _environment(finalize: Callable[[Any], str] | None = None, autoescape: bool = False, **marks: Any) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("cinema_lightning.benchmark.report")
    options: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    return Environment(
        loader=loader, autoescape=autoescape, finalize=finalize, undefined=StrictUndefined, **options, **marks
    )
