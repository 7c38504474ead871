"""Figures of the report against an independent few lines of pandas, and against each other's files."""

from __future__ import annotations

import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cinema_lightning.benchmark.report import report

CLASSES = ["NOR", "DCM", "HCM"]


@pytest.fixture(scope="module")
def made(results_root, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("report")
    assert report(results_root, out) == 0
    return out


def table(
    root: Path, task: str, arm: str, seed: int, test: str, name: str = "cases", fraction: int = 100
) -> pd.DataFrame:
    return pd.read_csv(root / f"cells/{task}/{arm}/f{fraction}/s{seed}/test/{test}/{name}.csv")


def figure(made: Path, **wanted) -> pd.Series:
    found = pd.read_csv(made / "figures.csv")
    for name, value in wanted.items():
        found = found[found[name] == value]
    assert len(found) == 1, (wanted, len(found))
    return found.iloc[0]


def comparison(made: Path, **wanted) -> pd.Series:
    found = pd.read_csv(made / "comparisons.csv")
    for name, value in wanted.items():
        found = found[found[name] == value]
    assert len(found) == 1, (wanted, len(found))
    return found.iloc[0]


@pytest.mark.parametrize("arm", ["cinema", "scratch", "unet"])
@pytest.mark.parametrize("fraction", [100, 25])
def test_dice_is_the_mean_over_cases_then_seeds(results_root, made, arm, fraction):
    seeds = (0,) if (arm, fraction) == ("unet", 25) else (0, 1)
    values = [table(results_root, "acdc_seg", arm, s, "acdc_seg", fraction=fraction)["mean_dice"].mean() for s in seeds]
    found = figure(made, task="acdc_seg", dataset="acdc", figure="mean_dice", arm=arm, fraction=fraction)
    assert found["value"] == pytest.approx(np.mean(values), rel=1e-5)
    assert found["n_seeds"] == len(seeds)
    assert found["n_subjects"] == 60
    assert found["n_cases"] == 120
    if len(seeds) > 1:
        assert found["sd_seeds"] == pytest.approx(np.std(values, ddof=1), rel=1e-4)


@pytest.mark.parametrize("dataset", ["acdc", "kaggle"])
@pytest.mark.parametrize("arm", ["cinema", "unet"])
def test_ef_error_comes_from_function_csv(results_root, made, dataset, arm):
    errors = []
    for seed in (0, 1):
        rows = table(results_root, "acdc_seg", arm, seed, f"{dataset}_seg", "function")
        errors.append((rows["lv_ef_pred"] - rows["lv_ef_true"]).abs().mean())
    found = figure(made, dataset=dataset, figure="lv_ef_mae", arm=arm, fraction=100)
    assert found["value"] == pytest.approx(np.mean(errors), rel=1e-5)


def test_undefined_cases_are_counted(results_root, made):
    tables = [table(results_root, "acdc_seg", "scratch", s, "acdc_seg") for s in (0, 1)]
    found = figure(made, dataset="acdc", figure="mean_hd95", arm="scratch", fraction=100)
    # where a region was missed there is no distance, and the mean over the others would flatter
    lost = [t[["rv_hd95", "myocardium_hd95", "lv_hd95"]].isna().any(axis=1) for t in tables]
    kept = [t["mean_hd95"][~gone].mean() for t, gone in zip(tables, lost, strict=True)]
    assert found["value"] == pytest.approx(np.mean(kept), rel=1e-5)
    assert found["n_missing"] == max(gone.sum() for gone in lost)
    people = [t["subject"][gone].nunique() for t, gone in zip(tables, lost, strict=True)]
    assert found["failed"] == pytest.approx(np.mean(people) / 60, rel=1e-5)
    compared = comparison(made, dataset="acdc", figure="mean_hd95", baseline="scratch", fraction=100)
    assert compared["test"] == "ranks"
    assert compared["failed_baseline"] == found["failed"]
    assert compared["p"] == compared["p_rank"]


def test_auroc_is_averaged_over_seeds(results_root, made):
    found = figure(made, task="mnms_cvd", figure="auroc", arm="cinema", fraction=100)
    areas = []
    for seed in (0, 1):
        rows = table(results_root, "mnms_cvd", "cinema", seed, "mnms_cvd")
        per_class = []
        for name, other in ((a, b) for a in CLASSES for b in CLASSES if a != b):
            positive, negative = (rows.loc[rows["true"] == which, f"prob_{name}"] for which in (name, other))
            per_class.append(stats.mannwhitneyu(positive, negative).statistic / len(positive) / len(negative))
        areas.append(np.mean(per_class))
    assert found["value"] == pytest.approx(np.mean(areas), rel=1e-5)


@pytest.mark.parametrize("arm", ["cinema", "scratch", "unet"])
def test_disease_detection(results_root, made, arm):
    for name, diseased in (("disease_sensitivity", True), ("disease_specificity", False)):
        shares = []
        for seed in (0, 1):
            rows = table(results_root, "mnms_cvd", arm, seed, "mnms_cvd")
            best = rows[[f"prob_{c}" for c in CLASSES]].to_numpy().argmax(axis=1)
            of = (rows["true"] != "NOR") == diseased
            shares.append((((best != 0) == diseased) & of).sum() / of.sum())
        assert figure(made, figure=name, arm=arm, fraction=100)["value"] == pytest.approx(np.mean(shares), rel=1e-5)


def test_scan_rescan_variation(results_root, made):
    found = pd.read_csv(made / "repeatability.csv").set_index("arm")
    values = []
    for seed in (0, 1):
        rows = table(results_root, "rescan_seg", "unet", seed, "rescan_seg", "function")
        wide = rows.pivot(index="subject", columns="scan", values="lv_ef_pred")
        x, y = wide["A"], wide["B1"]
        values.append(100 * np.sqrt((((x - y) ** 2 / 2) / ((x + y) / 2) ** 2).mean()))
        if seed == 0:
            assert found.loc["unet", "bias"] == pytest.approx((y - x).mean(), rel=1e-4)
            assert found.loc["unet", "loa_high"] == pytest.approx((y - x).mean() + 1.96 * (y - x).std(), rel=1e-4)
    assert found.loc["unet", "cv"] == pytest.approx(np.mean(values), rel=1e-5)
    assert found.loc["unet", "n_subjects"] == 60
    assert "reference" in found.index


def test_concordance(results_root, made):
    values = []
    for seed in (0, 1):
        rows = table(results_root, "ukb_survival", "cinema", seed, "ukb_survival")
        time, event, risk = (rows[name].to_numpy() for name in ("time", "event", "risk"))
        first = (event[:, None] == 1) & ((time[:, None] < time) | ((time[:, None] == time) & (event == 0)))
        right = (risk[:, None] > risk) + 0.5 * (risk[:, None] == risk)
        values.append((right * first).sum() / first.sum())
    assert figure(made, figure="c_index", arm="cinema", fraction=100)["value"] == pytest.approx(
        np.mean(values), rel=1e-5
    )


@pytest.mark.parametrize(
    ("task", "test", "name", "value"),
    [
        ("acdc_seg", "acdc_seg", "mean_dice", lambda t: t["mean_dice"]),
        ("mnms_age", "mnms_age", "mae", lambda t: (t["predicted"] - t["true"]).abs()),
        ("landmark_heatmap_2ch", "landmark_heatmap_2ch", "mean_distance", lambda t: t["mean_distance_mm"]),
    ],
)
def test_paired_difference_of_means(results_root, made, task, test, name, value):
    def per_subject(arm: str) -> pd.Series:
        tables = [table(results_root, task, arm, seed, test) for seed in (0, 1)]
        values = sum(value(t) for t in tables) / 2
        return values.groupby(tables[0]["subject"]).mean()

    difference = per_subject("cinema") - per_subject("scratch")
    dataset = {"acdc_seg": "acdc", "mnms_age": "mnms"}.get(task, "landmark")
    found = comparison(made, task=task, dataset=dataset, figure=name, baseline="scratch", fraction=100)
    assert found["value"] == pytest.approx(difference.mean(), rel=1e-4, abs=1e-6)
    assert found["p_wilcoxon"] == pytest.approx(stats.wilcoxon(difference).pvalue, rel=1e-4)
    assert found["test"] == "difference"
    assert found["p"] == found["p_difference"]
    # a 95% interval that leaves 0 out has a p below 0.05, and the seeds make it no narrower than Student's
    assert (found["low"] > 0 or found["high"] < 0) == (found["p"] < 0.05)
    low, high = stats.t.interval(0.95, 59, difference.mean(), stats.sem(difference))
    assert found["high"] - found["low"] > 0.9 * (high - low)


def test_holm_over_all_comparisons(made):
    found = pd.read_csv(made / "comparisons.csv")
    known = found[found["p"].notna()].sort_values("p", kind="stable")
    raw = known["p"].to_numpy() * np.arange(len(known), 0, -1)
    expected = np.minimum(np.maximum.accumulate(raw), 1)
    assert known["p_holm"].to_numpy() == pytest.approx(expected, rel=1e-4)
    assert len(known) > 50


def test_another_tool_is_compared_on_common_cases(results_root, made):
    ours = [table(results_root, "acdc_seg", "cinema", seed, "acdc_seg") for seed in (0, 1)]
    theirs = pd.read_csv(results_root / "external/acdc_seg/nnunet/f100/s0/acdc/cases.csv").set_index(["id", "frame"])
    mean = sum(t.set_index(["id", "frame"])["mean_dice"] for t in ours) / 2
    difference = mean.loc[theirs.index] - theirs["mean_dice"]
    found = comparison(made, figure="mean_dice", dataset="acdc", baseline="nnunet", fraction=100)
    assert found["value"] == pytest.approx(difference.mean(), rel=1e-4, abs=1e-7)
    assert (found["n_cases"], found["n_left_out"]) == (118, 2)
    assert "118 cases that they share" in (made / "report.html").read_text()


def test_fairness_by_group(results_root, made):
    rows = [table(results_root, "acdc_seg", "cinema", seed, "acdc_seg") for seed in (0, 1)]
    value = (rows[0]["mean_dice"] + rows[1]["mean_dice"]) / 2
    found = pd.read_csv(made / "fairness.csv")
    part = found.query("dataset == 'acdc' and figure == 'mean_dice' and arm == 'cinema' and factor == 'sex'")
    means = value.groupby(rows[0]["sex"]).mean()
    for sex in ("F", "M"):
        assert part[part["group"] == sex]["value"].item() == pytest.approx(means[sex], rel=1e-5)
    gap = part[part["is_gap"]].iloc[0]
    assert gap["value"] == pytest.approx(means.max() - means.min(), rel=1e-3)
    assert 0 < gap["p"] <= 1
    assert gap["low"] < 0 < gap["high"]
    # of the five age bands those with ten subjects or more are compared, each pair allowed for
    ages = found.query("dataset == 'acdc' and figure == 'mean_dice' and arm == 'cinema' and factor == 'age'")
    assert (ages.query("is_gap")["n_groups"] == (ages.query("not is_gap")["n_subjects"] >= 10).sum()).all()
    assert ages.query("not is_gap and n_subjects < 10")["low"].isna().all()
    # another tool's table knows no sex: it is looked up by study
    other = found.query("arm == 'nnunet' and figure == 'mean_dice' and factor == 'sex' and not is_gap")
    assert set(other["group"]) == {"F", "M"}
    small = found.query("dataset == 'acdc' and factor == 'vendor' and group == 'GE'")
    assert small["warning"].str.contains("only").all()
    assert set(found["factor"]) == {"sex", "age", "bmi", "vendor", "centre"}


def test_cost(made):
    found = pd.read_csv(made / "cost.csv")
    assert found["gpu_hours"].sum() == 48
    assert found["cpu_hours"].sum() == 24 - 1  # one cell is missing
    assert found["gpu_kwh"].iloc[0] == 2
    text = "71 cells took 48.0 GPU hours, and 23.0 hours of cells without a GPU."
    assert text in (made / "report.html").read_text()


# ---------------------------------------------------------------------- the page against the CSVs
class Cells(HTMLParser):
    """Rows of every table of a page, by its id; small print left out."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.name, self.inside, self.small = "", False, False

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.name = dict(attrs)["id"].removeprefix("table-")
            self.tables[self.name] = []
        elif tag == "tr":
            self.tables[self.name].append([])
        elif tag in ("td", "th"):
            self.tables[self.name][-1].append("")
            self.inside = True
        elif tag == "small":
            self.small = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.inside = False
        elif tag == "small":
            self.small = False

    def handle_data(self, data):
        if self.inside and not self.small:
            self.tables[self.name][-1][-1] += data


def numbers(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"-?\d+\.\d+", text.replace("\N{MINUS SIGN}", "-"))]


def shown(row: pd.Series, names=("value", "low", "high")) -> list[float]:
    places = 2 if isinstance(row["unit"], str) and row["unit"] else 3
    return [float(f"{row[name]:.{places}f}") + 0.0 for name in names]


def test_every_figure_of_the_page_is_that_of_the_csv(made):
    page = Cells()
    page.feed((made / "report.html").read_text())
    figures = pd.read_csv(made / "figures.csv").query("fraction == 100")
    checked = 0
    for (task, dataset), group in figures.groupby(["task", "dataset"]):
        rows = page.tables[f"figures-{task}-{dataset}"]
        arms = ["majority class" if each.startswith("Without") else each for each in rows[0][1:]]
        names = list(dict.fromkeys(group["figure"]))
        assert len(rows) - 1 == len(names)
        for name, row in zip(names, rows[1:], strict=True):
            for arm, cell in zip(arms, row[1:], strict=True):
                entry = group.query("figure == @name and arm == @arm")
                if len(entry) and np.isfinite(entry["value"].item()):
                    assert numbers(cell) == shown(entry.iloc[0]), (task, name, arm)
                    checked += 1
    assert checked > 80


def test_differences_of_the_page_are_those_of_the_csv(made):
    page = Cells()
    page.feed((made / "report.html").read_text())
    found = pd.read_csv(made / "comparisons.csv").query("fraction == 100")
    checked = 0
    for (task, dataset), group in found.groupby(["task", "dataset"]):
        rows = page.tables[f"differences-{task}-{dataset}"]
        baselines = [title.split(" ")[-1] for title in rows[0][1:]]
        for name, row in zip(dict.fromkeys(group["figure"]), rows[1:], strict=True):
            for baseline, cell in zip(baselines, row[1:], strict=True):
                entry = group.query("figure == @name and baseline == @baseline")
                if len(entry):
                    assert numbers(cell) == shown(entry.iloc[0]), (task, name, baseline)
                    checked += 1
    assert checked == len(found)


def test_published_figures_stand_beside_ours(made):
    page = Cells()
    page.feed((made / "report.html").read_text())
    rows = {row[0]: row for row in page.tables["published"][1:]}
    assert rows["LVEF MAE on data never trained on, %"][1:3] == ["4.83 [4.58, 5.21]", "5.59 [5.23, 6.01]"]
    sensitivity = next(row for row in page.tables["figures-mnms_cvd-mnms"] if row[0].startswith("Disease sensitivity"))
    assert sensitivity[1:3] == ["0.902 [0.858, 0.936]", "0.868 [0.839, 0.894]"]


def test_latex_and_markdown_show_the_same(made):
    name = "figures-acdc_seg-acdc"
    page = Cells()
    page.feed((made / "report.html").read_text())
    row = page.tables[name][1]
    markdown = (made / "tables" / f"{name}.md").read_text()
    latex = (made / "tables" / f"{name}.tex").read_text()
    assert r"\toprule" in latex
    assert r"\bottomrule" in latex
    for cell in row[1:4]:
        assert cell in markdown
        assert cell.replace("–", "--") in latex.replace(r"\textbf{", "")
    assert latex.count(r" \\") == len(page.tables[name])
    assert all(line.count("|") == len(row) + 1 for line in markdown.splitlines() if line.startswith("|"))


def test_csvs_are_rectangular(made):
    for path in made.glob("*.csv"):
        with path.open() as file:
            assert len({len(row) for row in csv.reader(file)}) == 1, path
