"""The page: one HTML file with everything inside, to read on a screen or on paper."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from string import Template

from cinema_lightning.benchmark.report.blocks import Block, Cell, Paragraph, Picture, Pictures, Section, Table

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; color: #1c1c1c; background: #fff;
  max-width: 1240px; margin: 0 auto; padding: 24px 28px 60px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 6px; }
h2 { font-size: 20px; margin: 44px 0 8px; padding-top: 10px; border-top: 2px solid #1c1c1c; }
h3 { font-size: 16px; margin: 28px 0 6px; }
p { margin: 6px 0 10px; max-width: 78ch; }
a { color: #00508a; text-decoration: none; }
a:hover { text-decoration: underline; }
nav { margin: 18px 0 8px; padding: 10px 16px; background: #f5f6f7; }
nav ol { margin: 0; padding-left: 22px; }
nav ol ol { columns: 2; column-gap: 32px; font-size: 13px; padding-left: 16px; list-style: none; }
.lead { color: #444; }
.warning { border-left: 3px solid #c25700; background: #fdf4ec; padding: 6px 12px; max-width: none; }
.wide { overflow-x: auto; margin: 0 0 6px; }
table { border-collapse: collapse; font-size: 13px; line-height: 1.35; font-variant-numeric: tabular-nums;
  border-top: 1.5px solid #1c1c1c; border-bottom: 1.5px solid #1c1c1c; min-width: 420px; }
.caption { font-weight: 600; font-size: 13px; margin: 18px 0 5px; max-width: 110ch; break-after: avoid; }
th, td { padding: 4px 16px 4px 0; text-align: right; vertical-align: top; }
th { font-weight: 600; border-bottom: 1px solid #1c1c1c; vertical-align: bottom; }
th.text, td.text { text-align: left; }
td:last-child, th:last-child { padding-right: 4px; }
td span { white-space: nowrap; } td.text { min-width: 9ch; }
td.heading { text-align: left; font-weight: 600; padding-top: 9px; }
tbody tr + tr td { border-top: 1px solid #ececec; }
td small { display: block; color: #5a5a5a; font-size: 11px; font-weight: 400; white-space: normal; }
.muted { color: #8a8a8a; font-style: italic; }
.notes { font-size: 12px; color: #444; margin: 2px 0 12px; max-width: 100ch; }
.pictures { display: flex; flex-wrap: wrap; gap: 14px 22px; margin: 12px 0; }
figure { margin: 0; break-inside: avoid; }
figure img { display: block; max-width: 100%; }
figcaption { font-size: 12px; color: #444; max-width: 44ch; }
footer { margin-top: 48px; border-top: 1px solid #ccc; padding-top: 8px; font-size: 12px; color: #555; }
@page { size: A4 landscape; margin: 13mm; }
@media print {
  body { font-size: 10pt; max-width: none; padding: 0; }
  h2 { break-after: avoid; } h3 { break-after: avoid; }
  .wide { overflow: visible; }
  table { font-size: 8pt; } th, td { padding-right: 10px; } td small { font-size: 7pt; }
  thead { display: table-header-group; } tr { break-inside: avoid; }
  nav { background: none; padding: 0; }
  a { color: inherit; }
}
"""

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<header>
<h1>$title</h1>
$lead
</header>
<nav aria-label="Contents">
<ol>
$contents
</ol>
</nav>
<main>
$main
</main>
<footer>$footer</footer>
</body>
</html>
""")


def page(title: str, lead: Sequence[str], sections: Sequence[Section], footer: str) -> str:
    """HTML of a report.

    Args:
        title: Its heading.
        lead: Sentences below it.
        sections: Sections in their order.
        footer: Last line.

    Returns:
        A whole document that needs no other file.
    """
    return _PAGE.substitute(
        title=escape(title),
        style=_STYLE,
        lead="\n".join(f'<p class="lead">{escape(text)}</p>' for text in lead),
        contents="\n".join(_entry(section) for section in sections),
        main="\n".join(_section(section, 2) for section in sections),
        footer=escape(footer),
    )


def _entry(section: Section) -> str:
    inner = "".join(f"\n{_entry(part)}" for part in section.parts)
    below = f"<ol>{inner}\n</ol>" if inner else ""
    return f'<li><a href="#{escape(section.key)}">{escape(section.title)}</a>{below}</li>'


def _section(section: Section, level: int) -> str:
    parts = [f'<section id="{escape(section.key)}">', f"<h{level}>{escape(section.title)}</h{level}>"]
    parts += [_block(block) for block in section.blocks]
    parts += [_section(part, level + 1) for part in section.parts]
    return "\n".join([*parts, "</section>"])


def _block(block: Block) -> str:
    if isinstance(block, Paragraph):
        return f'<p class="warning">{escape(block.text)}</p>' if block.warning else f"<p>{escape(block.text)}</p>"
    if isinstance(block, Table):
        return _table(block)
    pictures = block.items if isinstance(block, Pictures) else [block]
    return f'<div class="pictures">\n{"".join(map(_picture, pictures))}</div>'


def _picture(picture: Picture) -> str:
    # An image of its own, since the ids inside several SVGs of one page would clash.
    data = base64.b64encode(picture.svg.encode()).decode()
    return (
        f'<figure><img src="data:image/svg+xml;base64,{data}" alt="{escape(picture.alternative)}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>\n"
    )


def _table(table: Table) -> str:
    head = "".join(
        f'<th scope="col"{_kind(place, table.left, header=True)}>{escape(title)}</th>'
        for place, title in enumerate(table.header)
    )
    body = "\n".join(_row(row, table) for row in table.rows)
    name = escape(table.name)
    notes = f'<p class="notes">{escape(" ".join(table.notes))}</p>' if table.notes else ""
    return (
        f'<p class="caption" id="{name}-caption">{escape(table.caption)}</p>\n'
        f'<div class="wide"><table id="{name}" aria-labelledby="{name}-caption">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>{notes}"
    )


def _kind(place: int, left: int, header: bool = False) -> str:
    return ' class="text"' if place < left else "" if header else ' class="number"'


def _row(row: Sequence[Cell | str], table: Table) -> str:
    if len(row) == 1:
        return f'<tr><td class="heading" colspan="{len(table.header)}">{_inner(row[0])}</td></tr>'
    cells = (f"<td{_kind(place, table.left)}>{_inner(cell)}</td>" for place, cell in enumerate(row))
    return f"<tr>{''.join(cells)}</tr>"


def _unbroken(text: str) -> str:
    """A narrow column may break between a value and its interval, not within."""
    value, bracket, rest = text.partition(" [")
    return f"<span>{escape(value)}</span> <span>[{escape(rest)}</span>" if bracket else escape(text)


def _inner(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return _unbroken(cell)
    text = _unbroken(cell.text)
    if cell.bold:
        text = f"<b>{text}</b>"
    if cell.muted:
        text = f'<span class="muted">{text}</span>'
    return f"{text}<small>{escape(cell.small)}</small>" if cell.small else text
