"""Folders of results: what is written, tables by hand, degenerate tables, malformed tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cinema_lightning.columns import look_up
from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics.function_tables import long_axis_table, ventricular_table
from cinema_lightning.results import pictures as shared
from cinema_lightning.results.finish import finish
from cinema_lightning.results.folder import read_results, read_table

PICTURES = {
    "segmentation": {"dice", "hd95", "lv_ef", "rv_ef", "lv_edv", "lv_esv", "rv_edv", "rv_esv", "lv_mass"},
    "cine": {"dice", "hd95", "lv_ef", "volume_curves"},
    "rescan": {"lv_ef", "lv_edv", "volume_curves", "scan_rescan"},
    "classification": {"confusion", "roc", "calibration"},
    "regression": {"age"},
    "landmarks": {"distances", "mapse", "long_axis_shortening"},
    "survival": {"kaplan_meier"},
}
PNG = b"\x89PNG"


def done(folder: Path) -> tuple[pd.DataFrame, dict]:
    """Finishes a folder with its function.csv; gives summary.csv and summary.json."""
    facts = json.loads((folder / "test.json").read_text())
    makers = {"segmentation": ventricular_table, "landmarks": long_axis_table}
    if facts["kind"] in makers:
        table = makers[facts["kind"]](read_table(folder / "cases.csv"), facts)
        if len(table):
            table.to_csv(folder / "function.csv", index=False)
    headlines = finish(folder)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in summary.json")

    summary = json.loads((folder / "summary.json").read_text(), parse_constant=refuse)
    assert [row["metric"] for row in summary["headlines"]] == [row["metric"] for row in headlines]
    return pd.read_csv(folder / "summary.csv"), summary


def pictures(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "pictures").glob("*.png") if path.read_bytes()[:4] == PNG}


@pytest.mark.parametrize("kind", PICTURES)
def test_each_kind_is_finished(make, kind):
    folder = make(kind, n=9 if kind == "cine" else 12)
    table, summary = done(folder)
    assert pictures(folder) >= PICTURES[kind]
    assert list(table.columns) == list(summary["rows"][0])
    assert len(table) == len(summary["rows"])
    assert summary["facts"] == json.loads((folder / "test.json").read_text())
    assert not [path for path in folder.rglob(".*") if path.is_file()], "nothing temporary stays"


def test_the_same_seed_gives_the_same_bytes(make):
    folder = make("regression")
    files = [folder / "summary.csv", folder / "summary.json", folder / "pictures" / "age.png"]
    written = []
    for seed in (3, 3, 4):
        finish(folder, seed)
        written.append([path.read_bytes() for path in files])
    assert written[0] == written[1]
    assert written[0][0] == written[2][0], "no interval is drawn"


# ---------------------------------------------------------------------- tables by hand
def test_tables_by_hand(write):
    folder = write(
        {"kind": "regression"}, cases=pd.DataFrame({"id": ["01", "2"], "true": [1, 2], "predicted": [1.5, 2]})
    )
    assert read_results(folder).cases["subject"].tolist() == ["01", "2"]
    assert done(folder)[1]["headlines"][0]["value"] == pytest.approx(0.25)
    folder = write({"kind": "segmentation"}, cases=pd.DataFrame({"id": ["a", "b"], "mean_dice": [0.8, 0.9]}))
    assert done(folder)[1]["headlines"][0]["value"] == pytest.approx(0.85)
    assert pictures(folder) == {"dice"}
    folder = write({"kind": "landmarks"}, cases=pd.DataFrame({"id": ["a", "b"], "mean_distance_mm": [1.0, 3.0]}))
    assert done(folder)[1]["headlines"][0]["value"] == 2
    assert pictures(folder) == {"distances"}
    probabilities = {"prob_NA": [0.9, 0.2, 0.4], "prob_None": [0.1, 0.8, 0.6]}
    table = pd.DataFrame({"id": ["a", "b", "c"], "true": ["NA", "None", "NA"], **probabilities})
    summary = done(write({"kind": "classification", "classes": ["NA", "None"]}, cases=table))[1]
    accuracy = next(row for row in summary["headlines"] if row["metric"] == "accuracy")
    assert (accuracy["value"], accuracy["n"]) == (pytest.approx(2 / 3), 3), "classes may be called NA and None"
    table = pd.DataFrame({"id": ["a", "b", "c"], "time": [10, 20, 30], "event": [1, 0, 1], "risk": [3, 2, 1]})
    folder = write({"kind": "survival"}, cases=table)
    assert "cox" not in done(folder)[1]["skipped"], "no other subjects are needed"
    assert pictures(folder) == {"kaplan_meier"}


def test_cells_that_say_nothing_are_missing(write):
    table = pd.DataFrame({"id": ["a", "b", "c"], "true": ["1", "NA", ""], "predicted": ["2", "3", "nan"], "age": ""})
    rows = done(write({"kind": "regression", "target": "y"}, cases=table))[0].set_index(["metric", "statistic"])
    assert rows.loc[("y", "mae"), ["value", "n", "n_missing"]].tolist() == [1, 1, 2]


# ---------------------------------------------------------------------- degenerate
@pytest.fixture
def few_quantities(monkeypatch):
    """One picture per kind of quantity: the others are drawn alike and take the time of the tests."""
    chosen = [look_up(name) for name in ("lv_ef", "lv_edv", "mapse")]
    monkeypatch.setattr(shared, "quantities", lambda: chosen)


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.usefixtures("few_quantities")
def test_one_case(make, kind):
    table, summary = done(make(kind, n=1))
    assert len(table)
    assert summary["headlines"]
    assert table["low"].isna().all() or kind == "landmarks" or "cine" in kind


@pytest.mark.parametrize("kind", PICTURES)
def test_no_case(make, kind):
    folder = make(kind, n=2)
    for path in folder.glob("*.csv"):
        pd.read_csv(path).iloc[:0].to_csv(path, index=False)
    _, summary = done(folder)
    assert summary["headlines"] == []
    assert summary["skipped"]
    assert not pictures(folder)


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("segmentation", r"(rv|lv|myocardium|mean)_.*"),
        ("classification", r"prob_.*"),
        ("regression", "predicted"),
        ("landmarks", r".*_(px|mm|pred)"),
        ("survival", "risk"),
    ],
)
def test_columns_without_a_value_are_counted(make, kind, columns):
    folder = make(kind, n=4)
    for path in folder.glob("*.csv"):
        table = pd.read_csv(path)
        table[list(table.filter(regex=f"^({columns})$"))] = np.nan
        table.to_csv(path, index=False)
    table, summary = done(folder)
    assert summary["headlines"] == []
    assert summary["skipped"]
    assert table["n_missing"].max() == len(pd.read_csv(folder / "cases.csv"))


def test_one_class_only(make):
    folder = make("classification", classes=["healthy", "sick"])
    pd.read_csv(folder / "cases.csv").assign(true="sick").to_csv(folder / "cases.csv", index=False)
    _, summary = done(folder)
    assert summary["skipped"] == {
        "roc": "only one class occurs",
        "figures": "AUROC, Specificity: not defined, these cases lack what they need",
    }
    found = {row["metric"]: row["value"] for row in summary["headlines"]}
    assert found["auroc"] is None
    assert found["specificity"] is None
    assert found["sensitivity"] is not None


def test_cases_without_a_known_class_are_counted_as_missing(make):
    folder = make("classification", n=12)
    table = pd.read_csv(folder / "cases.csv", dtype={"id": str})
    table.loc[:4, "true"] = ""
    table.to_csv(folder / "cases.csv", index=False)
    rows, summary = done(folder)
    found = summary["headlines"]
    assert {(row["n"], row["n_subjects"], row["n_missing"]) for row in found} == {(7, 7, 5)}
    assert rows.set_index("metric").loc["ece", ["n", "n_missing"]].tolist() == [7, 5]
    assert pictures(folder) == {"confusion", "roc", "calibration"}


def test_no_events(make):
    folder = make("survival", n=20)
    for name in ("cases", "validation"):
        pd.read_csv(folder / f"{name}.csv").assign(event=0).to_csv(folder / f"{name}.csv", index=False)
    table, summary = done(folder)
    assert table.set_index("metric").loc["event", "value"] == 0
    assert {row["metric"]: row["value"] for row in summary["headlines"]}["c_index"] is None
    assert set(pd.read_csv(folder / "cox.csv")["problem"]) == {"there are no events"}
    assert summary["skipped"]["figures"].endswith("not defined, none of the 20 studies has an event")
    assert pictures(folder) == {"kaplan_meier"}


def test_covariates_that_few_have_are_left_out(make):
    folder = make("survival", n=60)
    table = pd.read_csv(folder / "cases.csv")
    table.loc[10:, "lv_ef"] = np.nan
    table.assign(sex="male").to_csv(folder / "cases.csv", index=False)
    finish(folder)
    found = pd.read_csv(folder / "cox.csv")
    assert set(found["covariate"]) == {"age", "bmi", "risk"}
    assert set(found["n"]) == {60}


def test_covariates_that_few_have_together_are_left_out(make):
    """Each is known of two thirds, all three of a third: C of 66 subjects would stand beside that of 200."""
    folder = make("survival", n=90)
    table = pd.read_csv(folder / "cases.csv")
    for start, name in ((0, "lv_ef"), (30, "bmi")):
        table.loc[start : start + 29, name] = np.nan
    table.to_csv(folder / "cases.csv", index=False)
    finish(folder)
    found = pd.read_csv(folder / "cox.csv")
    assert set(found["n"]) == {90}
    assert set(found["covariate"]) == {"age", "sex", "risk"}


@pytest.mark.usefixtures("few_quantities")
def test_no_study_has_an_ef(make):
    folder = make("segmentation", n=5)
    table = pd.read_csv(folder / "cases.csv", dtype={"id": str})
    table[table["phase"] == "ED"].to_csv(folder / "cases.csv", index=False)
    table, summary = done(folder)
    assert "lv_ef_mae" not in {row["metric"] for row in summary["headlines"]}
    mae = table[table["statistic"] == "mae"].set_index("metric")
    assert mae.loc["lv_ef", ["n", "n_missing"]].tolist() == [0, 5]
    assert mae.loc["lv_edv", "n"] == 5
    assert "lv_ef" not in pictures(folder)


# ---------------------------------------------------------------------- malformed
def spoil(folder: Path, table: str, row: int, column: str, cell: str) -> None:
    path = folder / f"{table}.csv"
    cells = pd.read_csv(path, dtype=str, keep_default_na=False)
    cells.loc[row, column] = cell
    cells.to_csv(path, index=False)


@pytest.mark.parametrize(
    ("kind", "table", "column", "cell", "message"),
    [
        ("regression", "cases", "predicted", "n/k", r"cases.csv, row 4: 'n/k' in column predicted is not a number"),
        ("segmentation", "cases", "mean_dice", "0,9", r"cases.csv, row 4: '0,9' in column mean_dice is not a number"),
        ("segmentation", "cases", "lv_dice", "91.5", r"row 4: '91.5' in column lv_dice is not a share, 0 to 1"),
        ("segmentation", "cases", "mean_hd95", "-1", r"row 4: '-1.0' in column mean_hd95 is not a distance, 0 or more"),
        ("segmentation", "cases", "lv_volume_pred", "-1", r"row 4: '-1.0' in column lv_volume_pred is not a size"),
        ("classification", "cases", "true", "dcm", r"row 4: 'dcm' in column true is none of the classes in test.json"),
        ("classification", "cases", "prob_DCM", "55", r"row 4: '55.0' in column prob_DCM is not a probability, 0 to 1"),
        ("survival", "cases", "event", "2", r"row 4: '2' in column event is not 0 or 1"),
        ("survival", "validation", "time", "-3", r"validation.csv, row 4: '-3.0' in column time is not a time above 0"),
        ("regression", "cases", "id", "001", r"row 4: the case 001 stands there a second time"),
        ("regression", "cases", "id", " ", r"row 4: the id is empty"),
    ],
)
def test_malformed_cells_are_named(make, kind, table, column, cell, message):
    folder = make(kind, n=6)
    spoil(folder, table, 2, column, cell)
    with pytest.raises(CinemaError, match=message):
        finish(folder)
    assert not (folder / "summary.json").exists()


def test_an_ejection_fraction_is_percent(make):
    folder = make("segmentation", n=6)
    (folder / "function.csv").write_text("id,lv_ef_true,lv_ef_pred\n001,0.55,0.5\n002,0.61,0.6\n")
    with pytest.raises(CinemaError, match=r"function.csv: column lv_ef_true is 0.61 at most; .* written in percent"):
        read_results(folder)


@pytest.mark.parametrize(
    ("kind", "column"),
    [("classification", "prob_HCM"), ("regression", "true"), ("survival", "risk"), ("landmarks", "id")],
)
def test_missing_columns_are_named(make, kind, column):
    folder = make(kind, n=3)
    pd.read_csv(folder / "cases.csv").drop(columns=column).to_csv(folder / "cases.csv", index=False)
    with pytest.raises(CinemaError, match=rf"cases.csv has no column '{column}'"):
        read_results(folder)


def test_broken_files_are_named(make, tmp_path):
    with pytest.raises(CinemaError, match=r"There is no .*test.json"):
        read_results(tmp_path)
    folder = make("regression", n=3)
    (folder / "function.csv").write_text('id,lv_ef_pred\n"a,1\n')
    with pytest.raises(CinemaError, match=r"function.csv is not a CSV table"):
        read_results(folder)
    (folder / "function.csv").write_text("id,lv_ef_pred\na,good\n")
    with pytest.raises(CinemaError, match=r"function.csv, row 2: 'good' in column lv_ef_pred is not a number"):
        read_results(folder)
    (folder / "function.csv").write_text("id,lv_ef_pred,lv_ef_true\na,50,55\nb,50,55,60\n")
    with pytest.raises(CinemaError, match=r"function.csv, row 3 has 4 cells for 3 columns"):
        read_results(folder)
    (folder / "function.csv").write_text("id,lv_ef_pred,lv_ef_true\na,50,55,60\nb,5")
    with pytest.raises(CinemaError, match=r"function.csv, row 2 has 4 cells for 3 columns"):
        read_results(folder)
    (folder / "function.csv").write_text("id,lv_ef_pred,lv_ef_pred\na,50,55\n")
    with pytest.raises(CinemaError, match=r"function.csv has two columns 'lv_ef_pred'"):
        read_results(folder)
    (folder / "cases.csv").write_text("")
    with pytest.raises(CinemaError, match=r"cases.csv is not a CSV table"):
        read_results(folder)
    (folder / "cases.csv").unlink()
    with pytest.raises(CinemaError, match=r"There is no .*cases.csv"):
        read_results(folder)
    for text, message in (
        ("{", "not valid JSON"),
        ('{"kind": "poetry"}', "no known 'kind'"),
        ("[]", "no known 'kind'"),
    ):
        (folder / "test.json").write_text(text)
        with pytest.raises(CinemaError, match=message):
            read_results(folder)
    folder = make("classification", n=3)
    (folder / "test.json").write_text('{"kind": "classification"}')
    with pytest.raises(CinemaError, match=r"test.json lists no classes"):
        read_results(folder)
