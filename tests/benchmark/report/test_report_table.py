"""Tidy tables and their one renderer, without any results."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from cinema_lightning.benchmark.report import render
from cinema_lightning.benchmark.report.published import PUBLISHED, published
from cinema_lightning.benchmark.report.study import _best, _corrected
from cinema_lightning.benchmark.report.table import (
    Across,
    Picture,
    ReportColumn,
    Section,
    Table,
    count,
    difference,
    estimate,
    interval,
    number,
    p_value,
    ranged,
    tidy,
)

NAN = float("nan")
NASTY = r"a<b> & 50% of $x_1$ {c} | d"


def figure(arm: str, value: float, **options) -> dict:
    row = {"title": "Dice ↑", "arm": arm, "value": value, "low": value - 0.1, "high": value + 0.1, "unit": ""}
    return row | {"n_seeds": 3, "n_seeds_wanted": 3, "n_subjects": 50, "failed": 0.0, "best": False} | options


def table(rows: list[dict], **options) -> Table:
    across = Across("arm", {"ours": "Ours", "unet": "U-Net", "none": "Never ran"}, estimate)
    return Table("t", "A caption.", pd.DataFrame(rows), [ReportColumn("title", "Figure")], across, **options)


def test_rows_of_the_frame_stand_side_by_side():
    made = table([figure("unet", 0.8, failed=0.24), figure("ours", 0.9, best=True), figure("none", NAN, n_seeds=0)])
    assert made.header == [("Figure", False), ("Ours", True), ("U-Net", True), ("Never ran", True)]
    (row,) = made.rows
    assert [cell.text for cell in row] == ["Dice ↑", "0.900 [0.800, 1.000]", "0.800 [0.700, 0.900]", "missing"]
    assert [cell.bold for cell in row] == [False, True, False, False]
    assert row[2].small == "n 50; 3 seeds; 24.0% failed"
    assert row[1].sort == pytest.approx(0.9)


def test_what_is_not_known_is_a_dash_and_missing_seeds_are_said():
    made = table([figure("ours", 0.9, n_seeds=1), figure("unet", NAN)])
    (row,) = made.rows
    assert row[1].small == "n 50; 1 of 3 seeds"
    assert [cell.text for cell in row[2:]] == ["–", "–"]


def test_without_an_interval_the_value_stands_alone():
    (row,) = table([figure("ours", 0.9, low=NAN, high=NAN, n_subjects=7)]).rows
    assert (row[1].text, row[1].small) == ("0.900", "n 7 †; 3 seeds")


def test_every_format_says_the_same_and_nothing_breaks_out():
    data = pd.DataFrame({"name": [NASTY], "n": [1234], "x": [-0.5], "x_low": [-1.0], "x_high": [0.25]})
    columns = [
        ReportColumn("name", NASTY),
        ReportColumn("n", "Subjects", count),
        ReportColumn("x", "Bias, mm", ranged("mm", sign=True)),
    ]
    made = Table("nasty", NASTY, data, columns, notes=[NASTY])
    page = render.page(NASTY, [NASTY], [Section("key", NASTY, text=NASTY, tables=[made])], "end")
    assert page.count("a&lt;b&gt; &amp; 50% of $x_1$ {c} | d") == 10
    assert "<b>" not in page
    latex = render.latex(made)
    escaped = r"a$<$b$>$ \& 50\% of \$x\_1\$ \{c\} | d"
    assert latex.count(escaped) == 4
    assert r"\label{tab:nasty}" in latex
    assert rf"{escaped} & 1,234 & $-$0.50 [$-$1.00, +0.25] \\" in latex
    markdown = render.markdown(made)
    assert markdown.count(r"a&lt;b> & 50% of $x_1$ {c} \| d") == 4
    assert "| 1,234 | \N{MINUS SIGN}0.50 [\N{MINUS SIGN}1.00, +0.25] |" in markdown
    assert all(line.count(" |") == 3 for line in markdown.replace(r"\|", "").splitlines() if line.startswith("|"))
    assert render.csv(data).splitlines()[1].endswith("1234,-0.5,-1,0.25")


def test_empty_sections_are_one_line_at_the_end():
    full = Section("full", "Full", tables=[Table("t", "T.", pd.DataFrame({"n": [1]}), [ReportColumn("n", "N", count)])])
    page = render.page("Title", [], [Section("none", "Empty", "No data of it."), full], "end")
    assert '<section id="none">' not in page
    assert 'href="#none"' not in page
    assert page.index('<section id="full">') < page.index("<b>Empty</b> – No data of it.")


def test_pictures_stand_in_the_page_and_say_what_they_are():
    picture = Picture('<svg width="1pt"></svg>', "Caption <1>", 'Says "it"')
    page = render.page("Title", [], [Section("a", "A", pictures=[picture])], "end")
    assert 'aria-label="Says &#34;it&#34;"><svg width="1pt"></svg></div>' in page
    assert "Caption &lt;1&gt;" in page


# ---------------------------------------------------------------------- what is bold
def comparisons(**options) -> pd.DataFrame:
    keys = {"task": "t", "dataset": "d", "figure": "f", "arm": "ours", "fraction": 100.0}
    row = {"higher_is_better": True, "value": 0.1, "p": 0.001, "n_seeds": 3, "test": "difference", "rank_better": NAN}
    row |= {"failed": 0.0, "failed_baseline": 0.0}
    rows = [keys | row | {"baseline": name} | options.pop(name, {}) | options for name in ("unet", "scratch")]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("options", "better", "best"),
    [
        ({}, [1, 1], True),
        ({"n_seeds": 1}, [0, 0], False),  # one training says nothing of the method
        ({"p": 0.04}, [0, 0], False),  # 0.08 after Holm
        ({"higher_is_better": False}, [-1, -1], False),
        ({"scratch": {"p": 0.5}}, [1, 0], False),  # not better than every other arm
        ({"test": "ranks", "rank_better": -0.3}, [-1, -1], False),  # it fails more often than it is better
        ({"failed_baseline": 0.1}, [0, 0], False),  # failures that no rank takes in
    ],
)
def test_bold_needs_a_corrected_p_and_more_than_one_training(options, better, best):
    found = _corrected(comparisons(**options))
    assert found["better"].tolist() == better
    keys = ["task", "dataset", "figure", "arm", "fraction"]
    figures = found[keys].drop_duplicates().assign(primary=True)
    assert _best(figures, found)["best"].tolist() == [best]


def test_differences_show_the_ranks_where_an_arm_failed():
    row = {"value": 0.5, "low": 0.1, "high": 0.9, "unit": "mm", "p": 0.2, "p_holm": 0.4, "better": 0, "n_subjects": 50}
    row |= {"failed": 0.0, "failed_baseline": 0.0}
    plain = difference(row | {"test": "difference"}, "arm")
    assert (plain.text, plain.small, plain.bold) == ("+0.50 [+0.10, +0.90]", "p 0.200, Holm 0.400; n 50", False)
    ranks = {"failed": 0.24, "failed_baseline": 0.0, "rank_better": -0.3, "rank_low": -0.5, "rank_high": -0.1}
    failing = difference(row | {"test": "ranks"} | ranks, "arm")
    assert failing.small.startswith("failed 24.0%, 0.0%; by rank \N{MINUS SIGN}0.300 [")


# ---------------------------------------------------------------------- numbers
def test_how_numbers_are_written():
    assert number(-0.0004) == "0.000"
    assert number(-1.5, "mm") == "\N{MINUS SIGN}1.50"
    assert number(1.5, "mm", sign=True) == "+1.50"
    assert number(NAN) == "–"
    assert interval(0.5, NAN, NAN) == "0.500"
    assert interval(0.5, 0.4, 0.6) == "0.500 [0.400, 0.600]"
    assert [p_value(p) for p in (0.0004, 0.0304, NAN)] == ["<0.001", "0.030", "–"]
    assert tidy(1 / 3) == 0.333333
    assert math.isnan(tidy(math.inf))


def test_published_figures():
    assert len(PUBLISHED) == 6
    own, unseen = (published("lv_ef_mae", "segmentation", *pair) for pair in (("acdc", "acdc"), ("kaggle", "acdc")))
    assert own is not None
    assert unseen is not None
    assert (own.ours[0], unseen.ours[0]) == (3.33, 4.83)
    assert published("lv_ef_variation", "segmentation", "rescan", "rescan") is not None
    assert published("mean_dice", "segmentation", "acdc", "acdc") is None
    assert published("lv_ef_mae", "regression", "acdc", "acdc") is None
