"""Results of other tools count the same only where they are of the same cases and of the same truth."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cinema_lightning.benchmark.report import report
from cinema_lightning.errors import CinemaError

Change = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture
def beside(tmp_path, make_results) -> Callable[..., Path]:
    """Our cell of a task, and beside it another tool's results, whose tables are changed."""

    def make(task: str, table: str = "cases", change: Change = lambda table: table) -> Path:
        root, other = tmp_path / "root", tmp_path / "other"
        make_results["cell"](root, task, "cinema", 100, 0, 24)
        make_results["cell"](other, task, "nnunet", 100, 0, 24)
        folder = root / "external" / task / "a_tool" / "f100" / "s0" / "results"
        shutil.copytree(other / "cells" / task / "nnunet/f100/s0/test" / task, folder)
        path = folder / f"{table}.csv"
        change(pd.read_csv(path, dtype={"id": str, "subject": str})).to_csv(path, index=False)
        return root

    return make


def difference(root: Path, figure: str) -> pd.Series:
    report(root, root / "report")
    found = pd.read_csv(root / "report" / "comparisons.csv")
    return found[(found["figure"] == figure) & (found["baseline"] == "a_tool")].iloc[0]


@pytest.mark.parametrize(
    ("task", "table", "change", "said"),
    [
        (
            "acdc_seg",
            "function",
            lambda t: t.assign(lv_ef_true=t.lv_ef_true / 100),
            r"lv_ef_true .* in percent",
        ),
        ("acdc_seg", "function", lambda t: t.assign(lv_ef_true=t.lv_ef_true / 2), r"lv_ef_true is another truth"),
        ("acdc_seg", "function", lambda t: t.assign(lv_edv_true=np.roll(t.lv_edv_true, 1)), r"'p000' has .* and "),
        ("mnms_age", "cases", lambda t: t.assign(true=t.true * 12), r"column true .* \(24 of 24 cases differ\)"),
        ("mnms_cvd", "cases", lambda t: t.assign(true=["NOR", *t.true[1:]]), r"'p000' has 'NOR' there and '\w+' in"),
        ("ukb_survival", "cases", lambda t: t.assign(event=1 - t.event), r"column event is another truth"),
        ("ukb_survival", "cases", lambda t: t.assign(time=t.time / 365), r"column time is another truth"),
        ("mnms_age", "cases", lambda t: t.assign(id=t.id.str[1:]), r"none of the cases of .* \(ids 000, 001, 002"),
    ],
)
def test_another_truth_is_refused(beside, task, table, change, said):
    root = beside(task, table, change)
    with pytest.raises(CinemaError, match=rf"external/{task}/a_tool/f100/s0/results/{table}.csv.*{said}"):
        report(root, root / "report")
    assert not (root / "report").exists()


def test_a_truth_that_differs_little_is_said(beside):
    root = beside("acdc_seg", "function", lambda t: t.assign(lv_edv_true=t.lv_edv_true * 1.03))
    assert difference(root, "lv_edv_mae")["n_cases"] == 24
    page = (root / "report" / "report.html").read_text()
    assert "column lv_edv_true differs from that of the other results in 24 cases" in page


def test_frames_may_lack_where_a_study_is_one_case(beside):
    """As docs/results.md says."""
    found = difference(beside("mnms_age", change=lambda t: t.drop(columns="frame")), "mae")
    assert (found["n_cases"], found["n_left_out"], found["n_subjects"]) == (24, 0, 24)
    assert np.isfinite(found["value"])


def test_seeds_that_draw_who_is_tested_share_no_case(beside, make_results):
    """As with data.test_fraction; each seed of another tool is compared with that seed of ours."""
    root = beside("mnms_age")
    make_results["cell"](root, "mnms_age", "cinema", 100, 1, 24)
    ours = next((root / "cells/mnms_age/cinema/f100/s1").rglob("cases.csv"))
    theirs = root / "external/mnms_age/a_tool/f100"
    shutil.copytree(theirs / "s0", theirs / "s1")
    for path, unit in ((ours, 1), (theirs / "s1/results/cases.csv", 12)):
        table = pd.read_csv(path, dtype={"id": str, "subject": str})
        names = "q" + table.id.str[1:]
        table.assign(id=names, subject=names, true=table.true * unit).to_csv(path, index=False)
    with pytest.raises(CinemaError, match=r"s1/results/cases.csv: column true is another truth"):
        report(root, root / "report")
    shutil.copy(ours, theirs / "s1/results/cases.csv")
    report(root, root / "report")
