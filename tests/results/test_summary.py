"""Summary rows and headline figures, recomputed from the tables by other means."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from lifelines.statistics import logrank_test
from lifelines.utils import concordance_index
from scipy import stats
from torchmetrics.functional import classification as reference

from cinema_lightning.metrics.censoring import auc_at
from cinema_lightning.metrics.function_tables import ventricular_table
from cinema_lightning.results.finish import finish
from cinema_lightning.results.folder import read_results, read_table
from cinema_lightning.results.kind import headlines
from cinema_lightning.results.summary import headline_rows, summary_rows
from cinema_lightning.tasks.segmentation.rescan import scan_pairs


def rows_of(folder) -> pd.DataFrame:
    table = pd.DataFrame(summary_rows(read_results(folder)))
    keys = ["metric", "group", "statistic"]
    assert not table.duplicated(keys).any()
    return table.set_index(keys).sort_index()


def headline(folder) -> pd.DataFrame:
    return pd.DataFrame(headline_rows(read_results(folder))).set_index("metric")


@pytest.fixture
def with_function(make):
    """A folder with function.csv, as the test writes it."""

    def made(name, **options):
        folder = make(name, **options)
        ventricular_table(read_table(folder / "cases.csv"), {}).to_csv(folder / "function.csv", index=False)
        return folder

    return made


def test_segmentation(with_function):
    folder = with_function("segmentation", n=25)
    rows, cases = rows_of(folder), pd.read_csv(folder / "cases.csv")
    for group, part in (("all", cases), ("ED", cases[cases["phase"] == "ED"]), ("ES", cases[cases["phase"] == "ES"])):
        for name in ("mean_dice", "rv_iou", "lv_hd95", "myocardium_stability"):
            row, values = rows.loc[name, group, "mean"], part[name]
            assert row["value"] == pytest.approx(values.mean())
            assert row["sd"] == pytest.approx(values.std())
            assert row["median"] == pytest.approx(values.median())
            assert row["low"] <= row["value"] <= row["high"]
            assert (row["n"], row["n_missing"]) == (values.notna().sum(), values.isna().sum())
            assert row["n_subjects"] == part.loc[values.notna(), "id"].nunique()
        difference = part["rv_volume_pred"] - part["rv_volume_true"]
        assert rows.loc["rv_volume", group, "bias"]["value"] == pytest.approx(difference.mean())
    function = pd.read_csv(folder / "function.csv")
    predicted, true = function["lv_ef_pred"], function["lv_ef_true"]
    error = predicted - true
    expected = {
        "mae": error.abs().mean(), "rmse": np.sqrt((error**2).mean()), "bias": error.mean(),
        "sd_of_differences": error.std(), "loa_low": error.mean() - 1.96 * error.std(),
        "loa_high": error.mean() + 1.96 * error.std(), "pearson": stats.pearsonr(predicted, true)[0],
    }  # fmt: skip
    for name, value in expected.items():
        assert rows.loc["lv_ef", "all", name]["value"] == pytest.approx(value), name
    found = headline(folder)
    assert found.index[0] == "mean_dice"
    assert found.loc["lv_ef_mae", "value"] == pytest.approx(error.abs().mean())
    kinds = [np.digitize(values, [40, 55], right=True) for values in (predicted, true)]
    assert found.loc["ef_class_accuracy", "value"] == pytest.approx(np.mean(kinds[0] == kinds[1]))
    mcc = reference.multiclass_matthews_corrcoef(*(torch.tensor(k) for k in kinds), num_classes=3).item()
    assert found.loc["ef_class_mcc", "value"] == pytest.approx(mcc, abs=1e-6)


def test_studies_without_label_maps_have_figures_of_function_only(with_function):
    folder = with_function("cine", labelled=False, n=5)
    found = headline(folder)
    assert "mean_dice" not in found.index
    assert {"lv_ef_mae", "lv_edv_mae", "lv_esv_mae", "ef_class_accuracy"} <= set(found.index)
    assert rows_of(folder).loc["mean_dice", "all", "mean"]["n_missing"] == 100


def test_frames_that_nobody_labelled_are_no_failures(make):
    folder = make("cine", n=5)
    table = pd.read_csv(folder / "cases.csv", dtype={"id": str})
    unlabelled = table["frame"] > 3
    table.loc[unlabelled, [n for n in table if n.endswith(("_volume_true", "mean_dice", "mean_hd95"))]] = np.nan
    table.loc[table.index[0], "mean_hd95"] = np.nan  # one failure among 20 labelled frames
    table.to_csv(folder / "cases.csv", index=False)
    finish(folder)
    found = headline(folder).loc["mean_hd95"]
    assert (found["n"], found["n_missing"]) == (19, 1)
    assert rows_of(folder).loc["mean_hd95", "all", "mean"]["n_missing"] == 1


def test_scan_and_rescan(with_function):
    folder = with_function("rescan")
    function = pd.read_csv(folder / "function.csv")
    for side, row in (("pred", "lv_ef_pred_scan_rescan"), ("true", "lv_ef_true_scan_rescan")):
        wide = function.pivot(index="subject", columns="scan", values=f"lv_ef_{side}")
        x, y = wide["A"], wide["B1"]
        expected = 100 * np.sqrt((((x - y) ** 2 / 2) / ((x + y) / 2) ** 2).mean())
        found = rows_of(folder).loc[row, "all", "coefficient_of_variation"]
        assert found["value"] == pytest.approx(expected)
        assert found["n_subjects"] == 25
        if side == "pred":
            variation = headline(folder).loc["lv_ef_variation"]
            assert variation["value"] == pytest.approx(expected)
            assert (variation["n"], variation["n_missing"]) == (25, 0), "persons, not scans"


def test_a_visits_first_known_reading_counts():
    rows = [("p", "A", 50), ("p", "B1", np.nan), ("p", "B2", 54), ("q", "A", 40), ("q", "B", 42), ("r", "A", 60)]
    table = pd.DataFrame(rows, columns=["subject", "scan", "lv_ef_pred"])
    first, second, people = scan_pairs(table, "pred")
    assert (first.tolist(), second.tolist(), people.tolist()) == ([50, 40], [54, 42], ["p", "q"])
    assert scan_pairs(table[table["scan"] == "A"], "pred") is None
    assert scan_pairs(table.drop(columns="scan"), "pred") is None


def test_classification_of_several_classes(make):
    folder = make("classification")
    found, rows, cases = headline(folder), rows_of(folder), pd.read_csv(folder / "cases.csv", keep_default_na=False)
    classes = json.loads((folder / "test.json").read_text())["classes"]
    scores = torch.tensor(cases[[f"prob_{name}" for name in classes]].to_numpy())
    true = torch.tensor([classes.index(name) for name in cases["true"]])
    options = {"num_classes": len(classes)}
    expected = {
        "mcc": reference.multiclass_matthews_corrcoef(scores, true, **options),
        "auroc": np.mean(
            [
                float(reference.binary_auroc(scores[pair, a], (true[pair] == a).long()))
                for a in range(len(classes))
                for b in range(len(classes))
                if a != b and len(pair := torch.nonzero((true == a) | (true == b))[:, 0])
            ]
        ),
        "accuracy": (scores.argmax(1) == true).double().mean(),
        "f1_macro": reference.multiclass_f1_score(scores, true, **options),
        "brier": ((scores - torch.eye(len(classes))[true]) ** 2).sum(1).mean(),
        "disease_sensitivity": (scores.argmax(1)[true != 0] != 0).double().mean(),
        "disease_specificity": (scores.argmax(1)[true == 0] == 0).double().mean(),
    }
    for name, value in expected.items():
        assert found.loc[name, "value"] == pytest.approx(float(value), abs=1e-6), name
        assert rows.loc[name, "all", name]["value"] == found.loc[name, "value"]
        assert found.loc[name, "low"] <= found.loc[name, "value"] <= found.loc[name, "high"]
    assert found.index[0] == "mcc"
    ece = reference.multiclass_calibration_error(scores, true, n_bins=10, norm="l1", **options)
    assert rows.loc["ece", "all", "ece"]["value"] == pytest.approx(float(ece), abs=1e-6)


def test_classification_of_two_classes(make):
    folder = make("classification", classes=["healthy", "NA"])
    found, cases = headline(folder), pd.read_csv(folder / "cases.csv", keep_default_na=False)
    sick, called = cases["true"] == "NA", cases["prob_NA"] > 0.5
    assert found.loc["sensitivity", "value"] == pytest.approx(called[sick].mean())
    assert found.loc["specificity", "value"] == pytest.approx((~called[~sick]).mean())
    assert found.loc["auroc", "value"] == pytest.approx(
        float(reference.binary_auroc(torch.tensor(cases["prob_NA"].to_numpy()), torch.tensor(sick.to_numpy()).long())),
        abs=1e-6,
    )
    assert "disease_sensitivity" not in found.index


def test_regression(make):
    folder = make("regression")
    found, rows, cases = headline(folder), rows_of(folder), pd.read_csv(folder / "cases.csv")
    error = cases["predicted"] - cases["true"]
    assert found.index[0] == "mae"
    assert found.loc["mae", ["value", "unit"]].tolist() == [pytest.approx(error.abs().mean()), "years"]
    assert rows.loc["age", "all", "bias"]["value"] == pytest.approx(error.mean())
    x, y = cases["predicted"], cases["true"]
    ccc = 2 * np.cov(x, y, ddof=0)[0, 1] / (x.var(ddof=0) + y.var(ddof=0) + (x.mean() - y.mean()) ** 2)
    assert found.loc["ccc", "value"] == pytest.approx(ccc)


@pytest.mark.parametrize(("spacing", "unit"), [(True, "mm"), (False, "px")])
def test_landmarks(make, spacing, unit):
    folder = make("landmarks", spacing=spacing)
    found, cases = headline(folder), pd.read_csv(folder / "cases.csv")
    assert found.loc["mean_distance", "value"] == pytest.approx(cases[f"mean_distance_{unit}"].mean())
    assert found.loc["mean_distance", "unit"] == unit
    assert ("apex_distance_px", "ES", "mean") in rows_of(folder).index


def test_horizons_beyond_the_follow_up_are_said(make):
    folder = make("survival")
    cases = pd.read_csv(folder / "cases.csv")
    late = cases["time"] > 4 * 365.25
    cases.assign(time=cases["time"].clip(upper=4 * 365.25), event=cases["event"].where(~late, 0)).to_csv(
        folder / "cases.csv", index=False
    )
    finish(folder)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["skipped"]["figures"] == (
        "AUC and Brier score at 5 years: left out, the longest follow-up is 4.0 years; set model.init_args.horizons to "
        "earlier ones"
    )
    values = {row["metric"]: row["value"] for row in summary["headlines"]}
    assert values["auc_3y"] is not None
    assert "auc_5y" not in values
    assert not [row for row in summary["rows"] if row["metric"] == "brier_5y"]


def test_survival(make):
    folder = make("survival")
    found, rows, cases = headline(folder), rows_of(folder), pd.read_csv(folder / "cases.csv")
    c = concordance_index(cases["time"], -cases["risk"], cases["event"])
    assert found.index[0] == "c_index"
    assert found.loc["c_index", "value"] == pytest.approx(c)
    assert rows.loc["event", "all", "count"]["value"] == cases["event"].sum()
    assert rows.loc["time", "all", "median"]["value"] == cases["time"].median()
    assert [name for name in found.index if name.startswith("auc")] == ["auc_1y", "auc_3y", "auc_5y"]
    assert 0.5 < found.loc["auc_3y", "value"] < 1
    brier, same = (rows.loc["brier_3y", "all", name] for name in ("brier_3y", "the same chance for all"))
    assert 0 < brier["low"] < brier["value"] < brier["high"] < 0.25 + 0.1
    assert brier["value"] < same["value"]
    finish(folder)
    groups = pd.read_csv(folder / "risk_groups.csv").set_index("group")
    high = cases["risk"] > pd.read_csv(folder / "validation.csv")["risk"].median()
    assert groups["n"].to_dict() == {"low risk": int((~high).sum()), "high risk": int(high.sum())}
    assert groups.loc["high risk", "events"] == cases.loc[high, "event"].sum()
    test = logrank_test(cases["time"][high], cases["time"][~high], cases["event"][high], cases["event"][~high])
    assert groups["log_rank_p"].tolist() == pytest.approx([test.p_value] * 2)
    cox = pd.read_csv(folder / "cox.csv").groupby("model").first()
    assert cox.loc["image", "c_index"] == pytest.approx(c, abs=0.01), "folds differ by a shift and a scale"
    assert set(cox.index) == {"clinical", "image", "clinical and image"}
    assert cox.loc["clinical and image", "gain"] == pytest.approx(
        cox.loc["clinical and image", "c_index"] - cox.loc["clinical", "c_index"]
    )


def test_horizons_of_the_configuration(make):
    folder = make("survival")
    facts = json.loads((folder / "test.json").read_text())
    (folder / "test.json").write_text(json.dumps(facts | {"horizons": [2, 40]}))
    found = headline(folder)
    assert found.index.tolist() == ["c_index", "auc_2y"], "nobody is followed for forty years"
    cases = pd.read_csv(folder / "cases.csv")
    expected = auc_at(cases["risk"], cases["time"], cases["event"], 2 * 365.25)
    assert found.loc["auc_2y", "value"] == pytest.approx(expected)


def test_a_missed_region_is_a_failure(make):
    """HD95 of the regions that were found made a case that lost one look good."""
    folder = make("segmentation", n=30)
    table = pd.read_csv(folder / "cases.csv", dtype={"id": str})
    table["lv_hd95"] = 5.0
    for name in ("rv_hd95", "myocardium_hd95"):
        table[name] = 9.0
    table["mean_hd95"] = (9 + 9 + 5) / 3
    missed = table["id"].isin(["001", "002", "003"])
    table.loc[missed, ["myocardium_volume_pred", "myocardium_hd95", "rv_hd95"]] = [0, np.nan, np.nan]
    table.loc[missed, "mean_hd95"] = 5.0
    table.to_csv(folder / "cases.csv", index=False)
    found, rows = headline(folder).loc["mean_hd95"], rows_of(folder).loc["mean_hd95", "all", "mean"]
    assert found["value"] == pytest.approx(23 / 3)
    assert (found["n"], found["n_failed"], found["n_subjects"]) == (54, 6, 27)
    assert rows[["value", "n", "n_failed"]].tolist() == found[["value", "n", "n_failed"]].tolist()
    assert headline(folder).loc["mean_dice", "n_failed"] == 0


def test_references_stand_beside(make):
    folder = make("regression")
    cases, found = pd.read_csv(folder / "cases.csv"), headline(folder)
    spread = (cases["true"] - cases["true"].mean()).abs().mean()
    assert found.loc["mae", ["reference", "reference_value"]].tolist() == ["predicting the mean", pytest.approx(spread)]
    assert rows_of(folder).loc["mae", "all", "predicting the mean"]["value"] == pytest.approx(spread)
    folder = make("classification")
    found = headline(folder)
    assert "f1_micro" not in found.index, "which is the accuracy"
    share = pd.read_csv(folder / "cases.csv", keep_default_na=False)["true"].value_counts(normalize=True).max()
    assert found.loc["accuracy", "reference_value"] == pytest.approx(share)
    assert found.loc["mcc", "reference_value"] == 0
    assert found.loc["auroc", "reference_value"] == 0.5


def test_cox_model_is_lifelines_own(make):
    from lifelines import CoxPHFitter

    folder = make("survival", n=80)
    finish(folder)
    test = pd.read_csv(folder / "cases.csv")
    names = ["age", "sex", "bmi", "lv_ef", "risk"]
    scaled = test[names].assign(sex=(test["sex"] == "M").astype(float))
    for name in (name for name in names if name != "sex"):
        scaled[name] = (scaled[name] - scaled[name].mean()) / scaled[name].std()
    fit = CoxPHFitter().fit(scaled.join(test[["time", "event"]]), "time", "event")
    found = pd.read_csv(folder / "cox.csv")
    found = found[found["model"] == "clinical and image"].set_index("covariate")
    for name in names:
        assert found.loc[name, "hazard_ratio"] == pytest.approx(fit.hazard_ratios_[name], rel=1e-5)
    seen = concordance_index(test["time"], -fit.predict_log_partial_hazard(scaled), test["event"])
    assert found["c_index"].iloc[0] < seen, "C is out of fold"


def test_intervals_are_over_subjects(write):
    one = pd.DataFrame({"id": list("abcdefghijkl"), "mean_dice": [0.7, 0.8, 0.9, 0.6] * 3})
    twice = pd.concat([one.assign(frame=0), one.assign(frame=1)])
    found = [rows_of(write({"kind": "segmentation"}, cases=table)) for table in (one, twice)]
    a, b = (table.loc["mean_dice", "all", "mean"] for table in found)
    assert (a["low"], a["high"]) == (pytest.approx(b["low"]), pytest.approx(b["high"]))
    assert (a["n"], b["n"], b["n_subjects"]) == (12, 24, 12)
    assert a["note"] == "fewer than 20 subjects"
    few = rows_of(write({"kind": "segmentation"}, cases=one[:9])).loc["mean_dice", "all", "mean"]
    assert np.isnan(few["low"])
    assert few["note"] == "fewer than 10 subjects: no interval"


@pytest.mark.parametrize("kind", ["segmentation", "classification", "regression", "landmarks", "survival"])
def test_every_kind_has_headlines_with_their_own_names(kind):
    found = headlines(kind, {"classes": ["NOR", "DCM", "HCM"], "dataset": "rescan"})
    names = [figure.name for figure in found]
    assert found
    assert len(set(names)) == len(names)
    assert all(figure.columns(pd.DataFrame({"id": []}), {"classes": ["NOR", "DCM"]}) is None for figure in found)
    assert headlines("poetry", {}) == []
