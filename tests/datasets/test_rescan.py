import csv
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from cinema_lightning.data.store import open_series, series_path
from cinema_lightning.prepare.command import prepare
from cinema_lightning.prepare.verify import verify

Z, T, Y, X = 3, 5, 24, 20


def _plane(row, column, size, spacing, z=0.0):
    row, column = np.array(row, float), np.array(column, float)
    centre = np.array([10.0, 20.0, 30.0]) + np.cross(row, column) * z
    return centre - row * spacing[0] * (size[0] - 1) / 2 - column * spacing[1] * (size[1] - 1) / 2


def _scan(folder: Path, *, labelled: bool, seed: int = 0, long_axis: int = T) -> Path:
    """SAX from z = 30 upwards, stored last slice first, with the LV shrinking until frame 3."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    spacing = np.array([1.0, 1.0])
    axes = (1, 0, 0, 0, 1, 0)
    sax = {
        "image_voxels": rng.integers(1, 900, (Z, T, Y, X)).astype(np.int16),
        "ImagePositionPatient": np.stack([_plane(axes[:3], axes[3:], (X, Y), spacing, 10.0 * z) for z in (2, 1, 0)]),
        "ImageOrientationPatient": np.array(axes, float),
        "PixelSpacing": spacing,
        "SliceSpacing": 10.0,
    }
    _dump(folder / "SAX.pickle", sax)
    for name, axes in (("2C", (0, 1, 0, 0, 0, 1)), ("4C", (1, 0, 0, 0, 0, 1))):
        position = _plane(axes[:3], axes[3:], (X, Y), spacing)
        image = rng.integers(1, 900, (long_axis, Y, X)).astype(np.int16)
        content = {"image_voxels": image, "ImagePositionPatient": position}
        content |= {"ImageOrientationPatient": np.array(axes, float), "PixelSpacing": spacing}
        _dump(folder / f"{name}.pickle", content)
    if labelled:
        maps = np.zeros((Z, T, Y, X), np.uint8)
        for t, radius in enumerate((5, 6, 4, 3, 6)):
            maps[:, t, 12 - radius - 1 : 12 + radius + 1, 10 - radius - 1 : 10 + radius + 1] = 2
            maps[:, t, 12 - radius : 12 + radius, 10 - radius : 10 + radius] = 1
        maps[0, :, 0, 0] = 3  # only the slice that is stored first
        _dump(folder / "SAX_segs.pickle", {"image_segmentation": maps})
    return folder


def _dump(path: Path, content) -> None:
    path.write_bytes(pickle.dumps(content))


def _rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def test_training_scans(tmp_path):
    for name in ("G1/s_0002", "G1/s_0010", "G2/s_0001"):
        _scan(tmp_path / "pickle" / "train" / name, labelled=True)
    out = tmp_path / "out"
    assert prepare("rescan", tmp_path, out) == 0
    rows = _rows(out / "cohort.csv")
    assert {name: row["split"] for name, row in rows.items()} == {
        "G1_s_0002": "val",
        "G1_s_0010": "train",
        "G2_s_0001": "val",
    }
    row = rows["G1_s_0010"]
    assert (row["ed_frame"], row["es_frame"], row["n_frames"], row["n_slices"]) == ("1", "3", "5", "3")
    assert float(row["lv_edv"]) == pytest.approx(12 * 12 * 3 * 0.01)
    assert float(row["lv_esv"]) == pytest.approx(6 * 6 * 3 * 0.01)
    labels = open_series(series_path(out, "G1_s_0010", "sax", "label"))
    assert (labels.n_frames, labels.info.frames) == (5, None)
    # The slice that is stored first is the last one of the stack, 20 mm above the first.
    assert (labels.read([0])[0] == 1).any(axis=(0, 1)).tolist() == [False, False, True]
    assert labels.info.affine[2, 2] == pytest.approx(10)
    for view in ("sax", "lax_2c", "lax_4c"):
        series = open_series(series_path(out, "G1_s_0010", view))
        index = np.linalg.solve(series.info.affine, [-10, -20, 30, 1])
        np.testing.assert_allclose(index[:2], (np.array(series.shape[:2]) - 1) / 2, atol=0.51)
        assert index[2] == pytest.approx(0, abs=1e-6)


def test_phases_are_those_of_the_short_axis(tmp_path):
    """ES is frame 3 of the five SAX frames, also where a long axis has three only: that is no error."""
    _scan(tmp_path / "pickle" / "train" / "G1" / "s_0001", labelled=True, long_axis=3)
    out = tmp_path / "out"
    assert prepare("rescan", tmp_path, out) == 0
    row = _rows(out / "cohort.csv")["G1_s_0001"]
    assert (row["ed_frame"], row["es_frame"], row["n_frames"]) == ("1", "3", "3")
    assert verify("rescan", out) == 0


def test_labelled_test_pairs_do_not_clash_with_the_rows_of_labels(tmp_path):
    for name in ("scan_00_A", "scan_00_B"):
        _scan(tmp_path / "pickle" / "test" / name, labelled=True)
    retest = tmp_path / "pickle" / "test_retest_100"
    _scan(retest / "11", labelled=False)
    (retest / "labels.csv").write_text("A,B1,B2,EDV_A,ESV_A,EDV_B1,EDV_B2,ESV_B1,ESV_B2\n11,,,100,40,,,,\n")
    assert prepare("rescan", tmp_path, tmp_path / "out") == 0
    rows = _rows(tmp_path / "out" / "cohort.csv")
    assert {name: (row["subject"], row["scan"], row["split"]) for name, row in rows.items()} == {
        "scan_00_A": ("scan_00", "A", "test"),
        "test_scan_00_A": ("test_scan_00", "A", "test"),
        "test_scan_00_B": ("test_scan_00", "B", "test"),
    }
    assert series_path(tmp_path / "out", "test_scan_00_B", "sax", "label").exists()


def test_scan_rescan_pairs_stay_apart(tmp_path):
    retest = tmp_path / "pickle" / "test_retest_100"
    for seed, name in enumerate(("11", "12", "13", "14", "15")):
        _scan(retest / name, labelled=False, seed=seed)
    (retest / "labels.csv").write_text(
        "A,B1,B2,EDV_A,ESV_A,EDV_B1,EDV_B2,ESV_B1,ESV_B2\n11,12,13.0,100,40,110,120,50,60\n14,15,,100,50,80,,20,\n"
    )
    out = tmp_path / "out"
    assert prepare("rescan", tmp_path, out) == 0
    rows = _rows(out / "cohort.csv")
    assert list(rows) == ["scan_00_A", "scan_00_B1", "scan_00_B2", "scan_01_A", "scan_01_B1"]
    assert {row["subject"] for row in rows.values()} == {"scan_00", "scan_01"}
    assert {row["split"] for row in rows.values()} == {"test"}
    assert [float(rows[name]["lv_edv"]) for name in rows] == [100, 115, 115, 100, 80]
    assert [float(rows[name]["lv_ef"]) for name in rows] == pytest.approx([60, 100 * 60 / 115, 100 * 60 / 115, 50, 75])
    assert rows["scan_00_B2"]["lv_edv_scan"] == "120.0"
    first, second = (open_series(series_path(out, name, "sax")).read() for name in ("scan_00_B1", "scan_00_B2"))
    assert (first != second).any()


def test_bad_scans(tmp_path):
    train = tmp_path / "pickle" / "train" / "G"
    _scan(train / "s_0001", labelled=True)
    trace = tmp_path / "it_ran"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {trace}",)

    _dump(_scan(train / "s_0002", labelled=True) / "SAX.pickle", {"image_voxels": Evil()})
    (_scan(train / "s_0003", labelled=True) / "4C.pickle").unlink()
    cut = _scan(train / "s_0004", labelled=True) / "2C.pickle"
    cut.write_bytes(cut.read_bytes()[:400])
    _dump(_scan(train / "s_0005", labelled=True) / "SAX_segs.pickle", {"other": 1})
    _dump(
        _scan(train / "s_0006", labelled=True) / "SAX.pickle",
        {"image_voxels": np.zeros((Z, T, Y, X)), "SliceSpacing": 0},
    )
    assert prepare("rescan", tmp_path, tmp_path / "out") == 1
    failures = {name: row["reason"] for name, row in _rows(tmp_path / "out" / "failures.csv").items()}
    assert failures.keys() == {f"G_s_000{number}" for number in (2, 3, 4, 5, 6)}
    assert "refused: it asks for" in failures["G_s_0002"]
    assert not trace.exists()
    assert "4C.pickle is missing" in failures["G_s_0003"]
    assert "2C.pickle" in failures["G_s_0004"]
    assert "image_segmentation" in failures["G_s_0005"]
    assert "SliceSpacing" in failures["G_s_0006"]
