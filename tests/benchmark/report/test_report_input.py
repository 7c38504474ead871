"""Reports of little, odd and broken results, and what the page says of it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cinema_lightning.benchmark.report import report
from cinema_lightning.benchmark.report.index import CellKey, build_index
from cinema_lightning.benchmark.report.wanted import wanted
from cinema_lightning.errors import CinemaError


def text_of(out: Path) -> str:
    return (out / "report.html").read_text()


def run(root: Path, out: Path, **options) -> str:
    report(root, out, **options)
    return text_of(out)


@pytest.fixture
def one_cell(tmp_path, make_results) -> Path:
    make_results["cell"](tmp_path / "root", "acdc_seg", "cinema", 100, 0, 20)
    return tmp_path / "root"


def test_one_cell(one_cell, tmp_path):
    page = run(one_cell, tmp_path / "out")
    assert "Dice ↑" in page
    assert not (tmp_path / "out" / "comparisons.csv").exists()
    assert "No task has results at more than one label fraction." in page
    assert "No kind of task here, such as survival, has tables or pictures of its own." in page


def test_without_our_arm(tmp_path, make_results):
    make_results["root"](tmp_path / "root", ("mnms_age",), ("unet", "scratch"), n=20)
    page = run(tmp_path / "root", tmp_path / "out")
    assert "No results are of the arm" in page
    assert "scratch, unet" in page
    page = run(tmp_path / "root", tmp_path / "other", ours="unet")
    assert len(pd.read_csv(tmp_path / "other" / "comparisons.csv")) > 0
    assert "unet − scratch" in page


def test_chosen_baselines(tmp_path, make_results):
    make_results["root"](tmp_path / "root", ("mnms_age",), n=20)
    run(tmp_path / "root", tmp_path / "out", baselines=["unet"])
    assert set(pd.read_csv(tmp_path / "out" / "figures.csv")["arm"]) == {"cinema", "unet", "predicting the mean"}
    with pytest.raises(CinemaError, match=r"'resnet'.*cinema, scratch, unet"):
        report(tmp_path / "root", tmp_path / "out", baselines=["resnet"])


def test_without_function_csv(one_cell, tmp_path):
    folder = one_cell / "cells/acdc_seg/cinema/f100/s0/test/acdc_seg"
    (folder / "function.csv").unlink()
    run(one_cell, tmp_path / "out")
    found = pd.read_csv(tmp_path / "out" / "figures.csv").query("dataset == 'acdc'")
    assert set(found["figure"]) == {"mean_dice", "mean_hd95"}


def test_external_results_alone(tmp_path, make_results):
    rng = np.random.default_rng(0)
    for arm in ("nnunet", "other"):
        folder = tmp_path / "root/external/acdc_seg" / arm / "f100/s0/acdc"
        make_results["segmentation"](folder, "acdc", rng, 1.0, 20, "acdc")
    page = run(tmp_path / "root", tmp_path / "out", ours="nnunet")
    assert "2 of other tools" in page
    assert len(pd.read_csv(tmp_path / "out" / "comparisons.csv")) > 5


def test_no_results_is_one_sentence(tmp_path):
    (tmp_path / "cells").mkdir()
    with pytest.raises(CinemaError, match=r"There are no results under .*run cells first"):
        report(tmp_path, tmp_path / "out")
    with pytest.raises(CinemaError, match="There is no folder"):
        report(tmp_path / "nowhere", tmp_path / "out")


def test_broken_tables_name_file_row_and_column(one_cell, tmp_path):
    path = one_cell / "cells/acdc_seg/cinema/f100/s0/test/acdc_seg/cases.csv"
    table = pd.read_csv(path)
    table["mean_dice"] = table["mean_dice"].astype(object)
    table.loc[3, "mean_dice"] = "good"
    table.to_csv(path, index=False)
    with pytest.raises(CinemaError, match=r"acdc_seg/cases.csv, row 5: 'good' in column mean_dice is not a number"):
        report(one_cell, tmp_path / "out")
    path.write_text('id,frame\n"a,0\n')
    with pytest.raises(CinemaError, match=r"acdc_seg/cases.csv"):
        report(one_cell, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_column_of_its_kind(tmp_path, make_results):
    make_results["cell"](tmp_path / "root", "ukb_survival", "cinema", 100, 0, 20)
    path = tmp_path / "root/cells/ukb_survival/cinema/f100/s0/test/ukb_survival/cases.csv"
    pd.read_csv(path).drop(columns="risk").to_csv(path, index=False)
    with pytest.raises(CinemaError, match=r"cases.csv.*'risk'"):
        report(tmp_path / "root", tmp_path / "out")


def test_twice_the_same_case(one_cell, tmp_path):
    path = one_cell / "cells/acdc_seg/cinema/f100/s0/test/acdc_seg/cases.csv"
    table = pd.read_csv(path)
    pd.concat([table, table.iloc[:1]]).to_csv(path, index=False)
    with pytest.raises(CinemaError, match="twice"):
        report(one_cell, tmp_path / "out")


def test_results_of_different_tasks_in_one_group(tmp_path, make_results):
    make_results["root"](tmp_path / "root", ("mnms_cvd",), ("cinema", "unet"), n=20)
    path = tmp_path / "root/cells/mnms_cvd/unet/f100/s0/test/mnms_cvd/test.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"classes": facts["classes"][::-1]}))
    with pytest.raises(CinemaError, match=r"unet.*test.json has classes"):
        report(tmp_path / "root", tmp_path / "out")


def test_missing_and_failed_cells_are_shown(one_cell, tmp_path):
    make = {"state": "failed", "reason": "out of memory", "steps": {"fit": {"seconds": 60.0}}}
    failed = one_cell / "cells/acdc_seg/unet/f100/s0"
    failed.mkdir(parents=True)
    (failed / "cell.json").write_text(json.dumps(make))
    config = tmp_path / "matrix.yaml"
    config.write_text(
        "name: small\nseeds: [0, 1]\nfractions: [100]\n"
        "arms: {dense: {cinema: {display: CineMA}, unet: {network: UNet, display: U-Net}}}\n"
        "tasks: {acdc_seg: {kind: dense, display: ACDC masks}, emidec_seg: {kind: dense}}\n"
    )
    report(one_cell, tmp_path / "out", config=str(config))
    page = text_of(tmp_path / "out")
    assert "out of memory" in page
    assert "1 of 2 seeds" in page
    assert "U-Net" in page
    assert "ACDC masks" in page
    states = pd.read_csv(tmp_path / "out" / "gaps.csv").set_index(["task", "arm", "seed"])["state"]
    assert states["acdc_seg", "unet", 0] == "failed"
    assert states["emidec_seg", "cinema", 1] == "missing"
    assert states["acdc_seg", "cinema", 0] == "done"
    glance = page[page.index('<table id="table-glance"') :].partition("</table>")[0]
    assert glance.count("missing") == 4  # U-Net on ACDC and Kaggle, both arms on EMIDEC


def test_the_same_input_gives_the_same_bytes(one_cell, tmp_path):
    for name in ("a", "b"):
        report(one_cell, tmp_path / name)
    first = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert first
    for path in first:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes(), path


def test_the_page_is_self_contained(one_cell, tmp_path):
    page = run(one_cell, tmp_path / "out")
    markup = re.sub(r'xmlns(:xlink)?="http://www.w3.org/[^"]*"', "", page)  # names, not addresses
    for forbidden in ("http:", "https:", "<link", "<script src", "@import", "@font-face", str(tmp_path)):
        assert forbidden not in markup, forbidden
    assert set(re.findall(r"url\(([^)]*)\)", page)) <= {f"#{name}" for name in re.findall(r'id="([^"]*)"', page)}
    names = re.findall(r'\sid="([^"]*)"', page)
    assert len(names) == len(set(names)), "an id stands for one thing only"


def test_the_page_opens_with_pictures_then_tables(tmp_path, make_results):
    make_results["root"](tmp_path / "root", ("acdc_seg", "ukb_survival"), ("cinema", "unet"), n=30)
    page = run(tmp_path / "root", tmp_path / "out")
    claims = ["claim-tasks", "claim-labels", "claim-fairness", "claim-agreement", "claim-exhibits", "primary"]
    places = [page.index(f'<section id="{name}">') for name in claims]
    assert places == sorted(places)
    assert page.index("<svg") < page.index("<table")
    # forest in two units, two curves, gaps in two units, Bland-Altman of both datasets, Kaplan-Meier of ours
    assert page[: page.index("<table")].count("<svg") == 9
    assert 'fill="currentColor"' in page
    assert "prefers-color-scheme: dark" in page
    assert pd.read_csv(tmp_path / "out" / "risk_groups.csv").groupby("arm")["n"].sum().tolist() == [30, 30]
    assert set(pd.read_csv(tmp_path / "out" / "cox.csv")["model"]) == {"clinical", "clinical and image", "image"}


def test_one_training_speaks_of_itself_only(tmp_path, make_results):
    for arm in ("cinema", "unet"):
        make_results["cell"](tmp_path / "root", "landmark_heatmap_2ch", arm, 100, 0, 60)
    page = run(tmp_path / "root", tmp_path / "out")
    found = pd.read_csv(tmp_path / "out" / "comparisons.csv").set_index("figure").loc["mean_distance"]
    assert found["p_holm"] < 0.001
    assert found["better"] == 0
    assert "The comparisons rest on one training of an arm: they speak of this training only" in page
    assert "<b>" not in page[page.index("<table") : page.index('class="nothing"')]


def test_one_training_is_said_where_nothing_is_compared(tmp_path, make_results):
    make_results["cell"](tmp_path / "root", "landmark_heatmap_2ch", "cinema", 100, 0, 40)
    page = run(tmp_path / "root", tmp_path / "out")
    assert "The figures rest on one training of an arm: they speak of this training only" in page


@pytest.mark.parametrize(("n", "said"), [(9, True), (19, True), (20, False)])
def test_few_subjects_are_warned_of(tmp_path, make_results, n, said):
    make_results["root"](tmp_path / "root", ("mnms_age",), ("cinema", "unet"), n=n)
    page = run(tmp_path / "root", tmp_path / "out")
    assert (f"neither interval nor p: mnms_age, tested on mnms (n {n})." in page) == said
    table = page[page.index('id="table-differences-mnms_age-mnms"') :]
    assert (f"n {n} †" in table[: table.index("</table>")]) == said
    compared = pd.read_csv(tmp_path / "out" / "comparisons.csv")
    assert compared[["low", "high", "p"]].isna().all(axis=None) == (n < 10)
    assert r"n 9 $^\dagger$" in (tmp_path / "out/tables/figures-mnms_age-mnms.tex").read_text() or n != 9


def test_figures_that_nobody_defines_are_named(tmp_path, make_results):
    make_results["root"](tmp_path / "root", ("ukb_survival",), ("cinema",), n=30)
    for path in (tmp_path / "root").rglob("cases.csv"):
        table = pd.read_csv(path)
        table.assign(time=table["time"].clip(upper=700)).to_csv(path, index=False)
    page = run(tmp_path / "root", tmp_path / "out")
    said = "ukb_survival, tested on ukb: AUC and Brier score at 3, 5 years: left out, the longest follow-up is 1.9"
    assert said in page
    assert "auc_1y" in set(pd.read_csv(tmp_path / "out" / "figures.csv")["figure"])


def test_a_method_that_fails_is_not_the_best(tmp_path, make_results):
    """Its mean over the cases in which it found something flatters."""
    for arm in ("cinema", "unet"):
        for seed in (0, 1, 2):
            make_results["cell"](tmp_path / "root", "landmark_heatmap_2ch", arm, 100, seed, 50)
            path = tmp_path / f"root/cells/landmark_heatmap_2ch/{arm}/f100/s{seed}/test/landmark_heatmap_2ch/cases.csv"
            table = pd.read_csv(path)
            if arm == "unet":  # precise where it finds the landmarks, in 38 of 50 subjects
                table["mean_distance_mm"] = table["mean_distance_mm"] * 0.2
                table.loc[table["subject"].isin(table["subject"].unique()[:12]), "mean_distance_mm"] = np.nan
            else:
                table["mean_distance_mm"] = table["mean_distance_mm"] * 0.35
            table.to_csv(path, index=False)
    page = run(tmp_path / "root", tmp_path / "out")
    figures = pd.read_csv(tmp_path / "out" / "figures.csv").set_index("arm")
    assert figures.loc["unet", "value"] < figures.loc["cinema", "value"]
    assert figures.loc["unet", "failed"] == 0.24
    assert "24.0% failed" in page
    found = pd.read_csv(tmp_path / "out" / "comparisons.csv").iloc[0]
    assert (found["test"], found["failed"], found["failed_baseline"]) == ("ranks", 0.0, 0.24)
    assert found["p"] == found["p_rank"]


def test_names_are_escaped(tmp_path, make_results):
    make_results["folder"](
        tmp_path / "root/external/a_seg/x/f100/s0/d",
        {"kind": "regression", "dataset": "<b>d</b>", "target": "age", "unit": "years & months"},
        cases=pd.DataFrame({"id": ["a", "b", "c"], "true": [1.0, 2, 3], "predicted": [2.0, 2, 4]}),
    )
    page = run(tmp_path / "root", tmp_path / "out", ours="x")
    assert "<b>d</b>" not in page
    assert "&lt;b&gt;d&lt;/b&gt;" in page
    assert r"years \& months" in next((tmp_path / "out/tables").glob("figures-*.tex")).read_text()


def test_one_subject_has_no_interval(tmp_path, make_results):
    make_results["folder"](
        tmp_path / "root/external/age/x/f100/s0/d",
        {"kind": "regression", "dataset": "d", "unit": "years"},
        cases=pd.DataFrame({"id": ["a"], "true": [1.0], "predicted": [3.0]}),
    )
    page = run(tmp_path / "root", tmp_path / "out", ours="x")
    assert "2.00" in page
    assert pd.read_csv(tmp_path / "out" / "figures.csv").query("figure == 'mae'")["low"].isna().all()


def test_only_the_columns_of_the_figures_are_read(tmp_path, make_results):
    make_results["root"](tmp_path, ("acdc_seg", "mnms_cvd", "ukb_survival"), ("cinema",), n=12)
    cells = tmp_path / "cells"
    found = {}
    for task in ("acdc_seg", "mnms_cvd", "ukb_survival"):
        folder = cells / task / "cinema/f100/s0/test" / task
        keep = wanted(folder)
        assert keep is not None
        names = pd.read_csv(folder / "cases.csv", nrows=0).columns
        found[task] = {name for name in names if keep(name)} - {"sex", "age", "bmi", "vendor", "centre"}
    regions = {
        f"{region}_{what}" for region in ("rv", "myocardium", "lv") for what in ("hd95", "volume_true", "volume_pred")
    }
    assert found["acdc_seg"] == {"mean_dice", "mean_hd95", *regions}
    assert found["mnms_cvd"] == {"true", "prob_NOR", "prob_DCM", "prob_HCM"}
    assert found["ukb_survival"] == {"risk", "time", "event"}


# ---------------------------------------------------------------------- index
def test_index_takes_the_newest_version_and_all_tests(one_cell):
    cell = one_cell / "cells/acdc_seg/cinema/f100/s0"
    for version in ("2", "10"):
        shutil.copytree(cell / "test" / "acdc_seg", cell / "runs" / version / "test" / "acdc_seg")
    shutil.copytree(cell / "test" / "acdc_seg", cell / "test" / "acdc_other")
    index = build_index(one_cell)
    found = {entry.dataset: entry.folder for entry in index.entries}
    assert set(found) == {"acdc (acdc_seg)", "acdc (acdc_other)", "kaggle"}
    assert found["acdc (acdc_seg)"] == cell / "test" / "acdc_seg"
    shutil.rmtree(cell / "test")
    assert build_index(one_cell).entries[0].folder.parts[-3] == "10"


def test_index_warns_of_what_it_leaves_out(one_cell):
    cell = one_cell / "cells/acdc_seg/cinema/f100/s0"
    (cell / "test/kaggle_seg/test.json").unlink()
    (one_cell / "cells/acdc_seg/cinema/f100/sx").mkdir()
    index = build_index(one_cell, [SimpleNamespace(task="acdc_seg", arm="unet", fraction=25, seed=3)])
    assert index.missing() == [CellKey("acdc_seg", "unet", 25.0, 3)]
    text = " ".join(index.warnings)
    assert "has no test.json" in text
    assert "sx is no cell's folder" in text
    assert "the matrix does not have" in text


def test_a_damaged_record_names_the_file(one_cell):
    (one_cell / "cells/acdc_seg/cinema/f100/s0/cell.json").write_text("{")
    with pytest.raises(CinemaError, match=r"cell.json cannot be read"):
        build_index(one_cell)


def test_folds_of_a_seed_are_cells_of_their_own(tmp_path):
    for fold in (1, 2):
        place = tmp_path / "cells" / "seg" / "unet" / "f100" / f"s3k{fold}of2" / "results" / "acdc"
        place.mkdir(parents=True)
        (place / "cases.csv").write_text("id\n")
        (place / "test.json").write_text('{"dataset": "acdc"}')
    cells = [SimpleNamespace(task="seg", arm="unet", fraction=100, seed=3, fold=f"{n}/2") for n in (1, 2)]
    index = build_index(tmp_path, cells)
    assert [str(entry.key) for entry in index.entries] == ["seg/unet/f100/s3k1of2", "seg/unet/f100/s3k2of2"]
    assert [entry.key.repeat for entry in index.entries] == [301, 302]
    assert not index.missing()
