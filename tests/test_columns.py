"""A column is declared once; whatever reads or writes tables knows it from there."""

import ast
import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cinema_lightning
from cinema_lightning import columns
from cinema_lightning.benchmark.report import report
from cinema_lightning.columns import COLUMNS, Column, look_up
from cinema_lightning.data.table import read_cohort
from cinema_lightning.datasets.base import DATASETS, Dataset, dataset
from cinema_lightning.errors import CinemaError
from cinema_lightning.prepare.describe import describe
from cinema_lightning.prepare.verify import verify


@pytest.fixture
def plugged(monkeypatch):
    """A dataset of a plug-in with columns of its own; gone after the test."""
    for registry in (COLUMNS, DATASETS):
        registry.load()
        monkeypatch.setattr(registry, "_items", dict(registry._items))

    @dataset
    class Plugged(Dataset):
        name, display, source, looked_for, splits = "plugged", "Plugged", "here", "nothing", "none"
        views = ("sax",)
        columns = (
            Column("strain", "global strain", "%", range=(-40, 0), bands=(-20, -15)),
            Column("ward", kind="class", bands=()),
            "free",
        )

        def cases(self, raw):
            return []

        def read(self, case):
            raise NotImplementedError

    return "plugged"


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_verify_and_describe_know_a_plug_ins_column(plugged, tmp_path, capsys):
    head = "id,views,split,strain,ward,free,sex,lv_esv\n"
    rows = ["a,sax,train,-18.5,007,1,M,50", "b,sax,train,12,08,2,X,", "c,sax,test,deep,08,3,F,much"]
    (tmp_path / "cohort.csv").write_text(head + "\n".join(rows) + "\n")
    assert verify(plugged, tmp_path) == 1  # there are no files, either
    found = [(row["level"], row["id"], row["message"]) for row in _rows(tmp_path / "verify.csv")]
    assert [entry for entry in found if "strain" in entry[2] or "sex" in entry[2] or "lv_esv" in entry[2]] == [
        ("error", "b", "sex is 'X', not M or F"),
        ("error", "c", "lv_esv is 'much', not a number"),
        ("error", "c", "strain is 'deep', not a number"),
        ("warning", "b", "strain is 12 %, expected -40 to 0"),
    ]
    assert describe(plugged, tmp_path, studies=0) == 0
    said = {(row["column"], row["value"]): row for row in _rows(tmp_path / "description.csv") if row["split"] == "all"}
    assert (said["strain", ""]["n"], float(said["strain", ""]["mean"])) == ("2", -3.25)
    assert said["ward", "08"]["n"] == "2", "a class keeps its name as it stands"
    assert not any(column == "free" for column, _ in said), "nothing is known of it but its name"
    assert read_cohort(tmp_path).texts("ward") == ["007", "08", "08"]


def test_the_report_shows_results_by_a_plug_ins_column(plugged, tmp_path):
    rng = np.random.default_rng(0)
    true = rng.uniform(30, 70, 40)
    strain = np.r_[np.full(20, -25.0), np.full(10, -17.0), np.full(10, -10.0)]
    error = np.where(strain < -20, 2.0, 6.0)
    folder = tmp_path / "cells" / "ef" / "cinema" / "f100" / "s0" / "test" / "ef"
    folder.mkdir(parents=True)
    table = {"id": [f"p{i:02d}" for i in range(40)], "frame": 0, "true": true, "predicted": true + error}
    pd.DataFrame(table | {"strain": strain, "free": strain}).to_csv(folder / "cases.csv", index=False)
    facts = {"kind": "regression", "dataset": plugged, "trained_on": plugged, "target": "lv_ef", "unit": "%"}
    (folder / "test.json").write_text(json.dumps(facts))
    out = tmp_path / "report"
    report(tmp_path, out)
    found = pd.read_csv(out / "fairness.csv").query("figure == 'mae'").set_index(["factor", "group"])["value"]
    assert found["strain", "<-20"] == pytest.approx(2)
    assert found["strain", ">=-15"] == pytest.approx(6)
    assert list(found.index)[:3] == [("strain", "<-20"), ("strain", "-20 to -15"), ("strain", ">=-15")]
    assert set(found.index.get_level_values("factor")) == {"strain"}
    assert "Global strain, %" in (out / "report.html").read_text(encoding="utf-8")


def test_a_name_means_one_thing(plugged):
    columns.declare(Column("strain", "global strain", "%", range=(-40, 0), bands=(-20, -15)))  # the same again
    with pytest.raises(CinemaError, match="Two columns are called 'age'; rename one of them"):
        columns.declare(Column("age", unit="months"))
    assert look_up("nobody_knows_it") == Column("nobody_knows_it", kind="text")
    assert look_up("orig_sax_extent").housekeeping


def test_what_follows_from_other_columns():
    assert look_up("lv_ef").of({"lv_edv": 150.0, "lv_esv": 60.0}) == pytest.approx(60)
    assert look_up("rv_sv").of({"rv_edv": 150.0, "rv_esv": 60.0}) == 90
    assert look_up("bmi").of({"height": 2.0, "weight": 100.0}) == 25
    assert look_up("lv_ef").of({"lv_edv": 0.0, "lv_esv": 0.0}) is None
    assert look_up("lv_ef").of({"lv_edv": 150.0, "lv_esv": None}) is None
    assert look_up("bmi").of({"height": 2.0, "weight": 0.0}) is None
    assert look_up("age").of({"age": 50}) is None


@pytest.mark.parametrize(("name", "title"), [("bmi", "BMI, kg/m²"), ("age", "Age, years"), ("sex", "Sex")])
def test_titles(name, title):
    assert look_up(name).title == title


def _declared(node: ast.AST) -> list[str]:
    """Names in a literal that says something of them: a table of constants, or a list of constants."""
    if isinstance(node, ast.Dict):
        parts = [key for key, value in zip(node.keys, node.values, strict=True) if key and _is_constant(value)]
    else:
        parts = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else []
    return [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def _is_constant(node: ast.AST) -> bool:
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True


def test_no_other_module_lists_columns():
    """Datasets and phantoms fill cells, and kinds of task choose their figures; nobody else may list columns."""
    root = Path(cinema_lightning.__file__).parent
    names = {column.name for column in columns.COHORT} - set(columns.CASE)
    found = []
    for path in root.rglob("*.py"):
        where = path.relative_to(root).as_posix()
        if where.split("/")[0] in ("columns.py", "datasets", "phantom"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            listed = [name for name in _declared(node) if name in names]
            chosen = where.startswith("tasks/") or where == "results/headline.py"
            if len(listed) > 2 and (isinstance(node, ast.Dict) or not chosen):
                found.append((where, node.lineno, listed))
    assert found == []
