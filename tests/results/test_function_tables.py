"""function.csv: which frames are ED and ES, and where the truth comes from."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from cinema_lightning.metrics.function_tables import long_axis_table, ventricular_table
from cinema_lightning.results.folder import read_table


def cases(**columns) -> pd.DataFrame:
    return pd.DataFrame({"view": "sax", "subject": "s"} | columns)


def test_phases_give_function_of_both_sides(make):
    table = read_table(make("segmentation", n=6) / "cases.csv")
    found = ventricular_table(table, {}).set_index("id")
    wide = table.pivot(index="id", columns="phase")
    for side in ("true", "pred"):
        for name in ("lv", "rv"):
            edv, esv = (wide[f"{name}_volume_{side}", phase] for phase in ("ED", "ES"))
            np.testing.assert_allclose(found[f"{name}_edv_{side}"], edv)
            np.testing.assert_allclose(found[f"{name}_sv_{side}"], edv - esv)
            np.testing.assert_allclose(found[f"{name}_ef_{side}"], ((edv - esv) / edv * 100).clip(0, 100))
        np.testing.assert_allclose(found[f"lv_mass_{side}"], 1.05 * wide[f"myocardium_volume_{side}", "ED"])
    assert found["ed_frame_pred"].tolist() == [0] * 6
    assert found["es_frame_pred"].tolist() == [9] * 6
    assert {"age", "sex", "bmi"} <= set(found.columns)
    assert not [name for name in found.columns if "dice" in name or "phase" in name]


def test_a_whole_cine_is_searched_on_the_predicted_curve():
    table = cases(
        id="a", frame=[3, 2, 1, 0], lv_volume_pred=[90.0, 50.0, 160.0, 150.0], rv_volume_pred=[1.0, 2.0, 3.0, 4.0],
        phase=["", "ES", "", "ED"], lv_volume_true=[np.nan, 60.0, np.nan, 155.0],
    )  # fmt: skip
    (row,) = ventricular_table(table, {}).to_dict("records")
    assert (row["ed_frame_pred"], row["es_frame_pred"]) == (1, 2)
    assert (row["lv_edv_pred"], row["lv_esv_pred"]) == (160, 50)
    assert (row["rv_edv_pred"], row["rv_esv_pred"]) == (3, 2), "at the LV's phases"
    assert (row["lv_edv_true"], row["lv_esv_true"]) == (155, 60), "labelled frames are ED and ES by name"


@pytest.mark.parametrize("lost", [0.0, 30.0])
def test_a_failed_frame_is_no_end_systole(lost):
    """One frame of 25 in which the network lost the ventricle: EF 60, not 100 or 80."""
    curve = 150 - 45 * (1 - np.cos(2 * np.pi * np.arange(25) / 25))
    curve[4] = lost
    table = cases(id="a", frame=range(25), phase="", lv_volume_pred=curve)
    (row,) = ventricular_table(table, {}).to_dict("records")
    assert row["frames_left_out"] == "4"
    assert row["es_frame_pred"] in (12, 13)
    assert row["lv_edv_pred"] == 150
    assert row["lv_ef_pred"] == pytest.approx(60, abs=0.5)
    fine = table.assign(lv_volume_pred=150 - 45 * (1 - np.cos(2 * np.pi * np.arange(25) / 25)))
    assert ventricular_table(fine, {})["frames_left_out"].tolist() == [""]


def test_many_studies_are_told_apart_in_one_go():
    """Rows in any order, studies of different lengths: each has its own volumes, frames, person and truth."""
    phase = 2 * np.pi * np.arange(25) / 25
    curve = lambda edv, esv: edv - (edv - esv) / 2 * (1 - np.cos(phase))  # noqa: E731
    parts = [
        cases(id="long", frame=range(25), phase="", lv_volume_pred=curve(150, 60), subject="p1", age=61, lv_ef=58.0),
        cases(id="named", frame=[3, 11], phase=["ED", "ES"], lv_volume_pred=[140.0, 70.0], subject="p2", age=40),
        cases(id="lost", frame=range(25), phase="", lv_volume_pred=np.nan, subject="p3", age=77, lv_ef=31.0),
        cases(id="other", frame=range(50, 75), phase="", lv_volume_pred=curve(90, 54), subject="p1", age=62, lv_ef=41),
    ]
    found = ventricular_table(pd.concat(parts).sample(frac=1, random_state=3), {}).set_index("id")
    assert set(found.index) == {"long", "named", "lost", "other"}
    assert found["lv_edv_pred"].to_dict() == pytest.approx(
        {"long": 150, "named": 140, "lost": np.nan, "other": 90}, nan_ok=True
    )
    assert found.loc[["long", "named", "other"], "lv_ef_pred"].tolist() == pytest.approx([60, 50, 40], abs=0.5)
    assert found.loc["named", ["ed_frame_pred", "es_frame_pred"]].tolist() == [3, 11]
    assert found.loc["other", "es_frame_pred"] in (62, 63)
    assert found["subject"].to_dict() == {"long": "p1", "named": "p2", "lost": "p3", "other": "p1"}
    assert found["age"].to_dict() == {"long": 61, "named": 40, "lost": 77, "other": 62}
    assert found["lv_ef_true"].to_dict() == pytest.approx(
        {"long": 58, "named": np.nan, "lost": 31, "other": 41}, nan_ok=True
    )


def test_truth_of_the_studys_own_columns(make):
    table = read_table(make("cine", n=3, labelled=False) / "cases.csv")
    found = ventricular_table(table, {}).set_index("id")
    own = table.groupby("id")[["lv_edv", "lv_esv"]].first()
    np.testing.assert_allclose(found["lv_edv_true"], own["lv_edv"])
    np.testing.assert_allclose(found["lv_ef_true"], (1 - own["lv_esv"] / own["lv_edv"]) * 100)
    largest, smallest = (table.groupby("id")["lv_volume_pred"].agg(what) for what in ("max", "min"))
    # The frames are those of the smoothed curve; the volumes are counted in them.
    np.testing.assert_allclose(found["lv_ef_pred"], (1 - smallest / largest) * 100, rtol=0.01)
    volumes = table.set_index(["id", "frame"])["lv_volume_pred"]
    for name, key in (("ed_frame", "lv_edv"), ("es_frame", "lv_esv")):
        expected = volumes.loc[list(zip(found.index, found[f"{name}_pred"], strict=True))]
        np.testing.assert_allclose(found[f"{key}_pred"], expected)
    assert found["rv_edv_true"].isna().all()


def test_sources_of_the_truth_are_not_mixed():
    table = cases(
        id="a", frame=[0, 8], phase=["ED", "ES"], lv_volume_pred=[150.0, 60.0], lv_volume_true=[155.0, np.nan],
        lv_edv=140.0, lv_esv=70.0, lv_ef=50.0,
    )  # fmt: skip
    (row,) = ventricular_table(table, {}).to_dict("records")
    assert [row[f"lv_{name}_true"] for name in ("edv", "esv", "sv", "ef")] == [140, 70, 70, 50]


@pytest.mark.parametrize("phase", ["ED", "ES"])
def test_one_phase_alone_has_volumes_but_no_ef(phase):
    table = cases(
        id=["a"], frame=0, phase=phase, lv_volume_pred=100.0, lv_volume_true=90.0, myocardium_volume_pred=80.0
    )
    (row,) = ventricular_table(table, {}).to_dict("records")
    key = f"lv_{phase.lower()}v"
    assert (row[f"{key}_pred"], row[f"{key}_true"]) == (100, 90)
    assert np.isnan(row["lv_ef_pred"])
    assert np.isnan(row["lv_ef_true"])
    assert row["lv_mass_pred"] == pytest.approx(84) if phase == "ED" else np.isnan(row["lv_mass_pred"])


def test_ef_stays_between_0_and_100():
    table = cases(id="a", frame=[0, 8], phase=["ED", "ES"], lv_volume_pred=[50.0, 60.0], lv_ef=120.0)
    (row,) = ventricular_table(table, {}).to_dict("records")
    assert (row["lv_ef_pred"], row["lv_ef_true"]) == (0, 100)
    empty = cases(id="a", frame=[0, 8], phase=["ED", "ES"], lv_volume_pred=[0.0, 0.0])
    assert np.isnan(ventricular_table(empty, {})["lv_ef_pred"]).all()


def test_two_frames_without_a_name_are_told_by_their_volume():
    table = cases(id="a", frame=[0, 8], phase="", lv_volume_pred=[60.0, 150.0], lv_volume_true=[50.0, 200.0])
    (row,) = ventricular_table(table, {}).to_dict("records")
    assert (row["lv_ef_pred"], row["lv_ef_true"]) == (60, 75)
    assert (row["ed_frame_pred"], row["es_frame_pred"]) == (8, 0)
    assert np.isnan(ventricular_table(table.assign(phase=["ED", ""]), {})["lv_ef_pred"]).all(), "only ED is named"


def test_nothing_where_there_is_no_function():
    assert ventricular_table(cases(id=["a"], frame=0, phase="", lv_volume_pred=100.0), {}).empty, "no cine"
    assert ventricular_table(cases(id=["a"], frame=0, cavity_volume_pred=100.0), {}).empty, "EMIDEC"
    assert ventricular_table(cases(id=["a"], frame=0, lv_volume_pred=100.0).assign(view="lax_4c"), {}).empty


def test_minimal_columns():
    table = pd.DataFrame({"id": ["a", "a"], "phase": ["ED", "ES"], "lv_volume_pred": [100.0, 40.0]})
    (row,) = ventricular_table(table, {}).to_dict("records")
    assert row["lv_ef_pred"] == 60
    assert row["subject"] == "a"


def test_long_axis_function(make):
    folder = make("landmarks", n=4)
    table, facts = read_table(folder / "cases.csv"), json.loads((folder / "test.json").read_text())
    found = long_axis_table(table, facts).set_index("id")
    for study, part in table.groupby("id"):
        ed, es = (part[part["phase"] == phase].iloc[0] for phase in ("ED", "ES"))
        for side in ("true", "pred"):
            point = lambda row, name: 1.4 * np.array([row[f"{name}_x_{side}"], row[f"{name}_y_{side}"]])  # noqa: B023, E731
            hinges = [(point(row, "mitral_anterior"), point(row, "mitral_inferior")) for row in (ed, es)]
            middle = [np.mean(pair, axis=0) for pair in hinges]
            axis = point(ed, "apex") - middle[0]
            expected = np.mean([(b - a) @ axis for a, b in zip(*hinges, strict=True)]) / np.linalg.norm(axis)
            assert found.loc[study, f"mapse_{side}"] == pytest.approx(expected)
            lengths = [np.linalg.norm(point(row, "apex") - m) for row, m in zip((ed, es), middle, strict=True)]
            shortening = (1 - lengths[1] / lengths[0]) * 100
            assert found.loc[study, f"long_axis_shortening_{side}"] == pytest.approx(shortening)
    assert long_axis_table(table[table["phase"] == "ED"], facts).empty
    assert long_axis_table(table.assign(spacing_x=np.nan), facts).empty


def test_tricuspid_plane_excursion_is_along_the_mitral_axis():
    spots = {
        "ED": {"mitral_septal": (60, 40), "mitral_lateral": (40, 40), "tricuspid_lateral": (90, 46), "apex": (50, 110)},
        "ES": {"mitral_lateral": (40, 48), "mitral_septal": (60, 46), "tricuspid_lateral": (84, 60), "apex": (50, 110)},
    }
    rows = []
    for phase, points in spots.items():
        row = {"phase": phase} | dict.fromkeys(("spacing_x", "spacing_y"), 1.5)
        for name, place in points.items():
            for side in ("true", "pred"):
                row |= {f"{name}_{axis}_{side}": number for axis, number in zip("xy", place, strict=True)}
        rows.append(row)
    table = pd.DataFrame(rows).assign(id="a", subject="s", view="lax_4c")
    (found,) = long_axis_table(table, {"landmarks": list(spots["ED"])}).to_dict("records")
    assert found["tapse_true"] == pytest.approx(14 * 1.5), "the mitral axis runs along y, so x does not count"
    assert found["mapse_true"] == pytest.approx(7 * 1.5)
