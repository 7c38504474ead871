"""Where the crop goes when planes are missing, and what the table and verify say of the slices."""

import csv
import shutil
from zipfile import ZipFile

import numpy as np
import pytest

from cinema_lightning.data.store import open_series, series_path
from cinema_lightning.datasets.base import DATASETS
from cinema_lightning.prepare.command import prepare
from cinema_lightning.prepare.verify import check_study, read_rows, verify

# The axis of the heart in the SAX images, LPS mm: far from their middle.
HEART = np.array([-30.0, 25.0])
SPACING, SIZE, FRAMES = 2.5, (80, 72), 6
PLANES = {"sax": ((1, 0, 0), (0, 1, 0)), "2ch": ((0, 1, 0), (0, 0, 1)), "4ch": ((1, 0, 0), (0, 0, 1))}


def _beat(x: np.ndarray, y: np.ndarray, frame: int) -> np.ndarray:
    radius = 24 - 6 * (1 - np.cos(2 * np.pi * frame / FRAMES)) / 2
    distance = np.hypot(x - HEART[0], y - HEART[1])
    return 200 + 400 * (distance < radius) - 120 * ((distance >= radius) & (distance < radius + 9))


@pytest.fixture
def study(tmp_path, write_dicom):
    """Writes a study in Kaggle's layout: eight slices, 10 mm apart, and two long axes through the heart."""
    folder = tmp_path / "raw" / "train" / "7" / "study"

    def cine(name: str, plane: str, middle: np.ndarray) -> None:
        row, column = (np.array(axis, float) for axis in PLANES[plane])
        position = middle - SPACING * ((SIZE[0] - 1) / 2 * row + (SIZE[1] - 1) / 2 * column)
        u, v = SPACING * np.indices(SIZE)
        x, y, _ = (position[axis] + u * row[axis] + v * column[axis] for axis in range(3))
        for frame in range(FRAMES):
            tags = {"TriggerTime": 100.0 * frame, "CardiacNumberOfImages": FRAMES, "PixelSpacing": [SPACING, SPACING]}
            tags |= {"SeriesInstanceUID": f"1.2.{name.replace('_', '.').replace('ch', '').replace('sax', '9')}"}
            path = folder / name / f"IM-{frame + 1}.dcm"
            write_dicom(path, _beat(x, y, frame), position=position, orientation=(*row, *column), **tags)

    for index in range(8):
        cine(f"sax_{index + 5}", "sax", np.array([0.0, 0.0, 10.0 * index]))
    cine("2ch_20", "2ch", np.array([HEART[0], 0.0, 20.0]))
    cine("4ch_21", "4ch", np.array([0.0, HEART[1], 20.0]))
    return folder


def _middles(out) -> dict[str, np.ndarray]:
    """Middles of the crops, LPS mm."""
    middles = {}
    for view in ("sax", "lax_2c", "lax_4c"):
        path = series_path(out, "7", view)
        if path.is_file():
            info = open_series(path)
            size = [(n - 1) / 2 for n in info.shape[:2]]
            middles[view] = (np.diag([-1, -1, 1, 1]) @ info.info.affine @ [*size, 0, 1])[:3]
    return middles


@pytest.mark.parametrize(
    ("without", "found"), [((), "planes"), (("4ch",), "motion"), (("2ch",), "motion"), (("2ch", "4ch"), "motion")]
)
def test_the_crop_lies_on_the_heart(study, tmp_path, without, found):
    for name in without:
        shutil.rmtree(next(study.glob(f"{name}_*")))
    assert prepare("kaggle", tmp_path / "raw", tmp_path / "out") == 0
    [row] = read_rows(tmp_path / "out")
    assert (row["crop_centre"], row["n_slices"]) == (found, "8")
    middles = _middles(tmp_path / "out")
    assert len(middles) == 3 - len(without)
    np.testing.assert_allclose(middles["sax"][:2], HEART, atol=4)
    # A long-axis crop lies around the same point, seen on its plane: the first slice's, or the middle of the stack.
    height = 0.0 if found == "planes" else 35.0
    if "2ch" not in without:
        np.testing.assert_allclose(middles["lax_2c"], [HEART[0], HEART[1], height], atol=4)
    if "4ch" not in without:
        np.testing.assert_allclose(middles["lax_4c"], [HEART[0], HEART[1], height], atol=4)


def test_slices_left_out_and_filled_are_counted_and_warned_of(study, tmp_path, capsys):
    shutil.rmtree(study / "sax_8")
    shutil.copytree(study / "sax_6", study / "sax_16")  # the second slice again
    assert prepare("kaggle", tmp_path / "raw", tmp_path / "out") == 0
    [row] = read_rows(tmp_path / "out")
    assert [row[f"n_slices{part}"] for part in ("", "_read", "_left_out", "_filled")] == ["8", "8", "1", "1"]
    with (tmp_path / "out" / "warnings.csv").open() as file:
        reasons = "\n".join(line["reason"] for line in csv.DictReader(file))
    assert "sax_6 is left out: sax_16 is at the same place, and comes later" in reasons
    assert "slice 4 of 8 is missing: filled halfway between its neighbours" in reasons
    assert verify("kaggle", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "SAX slices left out of the stack: 1 (8 were read), see warnings.csv" in said
    assert "SAX slices filled between their neighbours: 1 (8 were read), see warnings.csv" in said


def test_a_table_without_these_columns_is_fine(study, tmp_path):
    assert prepare("kaggle", tmp_path / "raw", tmp_path / "out") == 0
    [row] = read_rows(tmp_path / "out")
    bare = {name: cell for name, cell in row.items() if not name.startswith("n_slices_")}
    assert not [
        finding
        for finding in check_study(DATASETS["kaggle"], tmp_path / "out", bare, [], full=False)
        if finding.check == "slices"
    ]


@pytest.mark.parametrize(("name", "slices", "distance"), [("101", "12", 10.0), ("301", "10", 8.0)])
def test_real_exports_with_all_slices_in_one_folder(real, tmp_path, name, slices, distance):
    """No long axes, one series, no descriptions, impossible dates."""
    with ZipFile(real / "dicom" / f"ge_{name}.zip") as archive:
        archive.extractall(tmp_path / "raw" / "train" / name / "study")
    assert prepare("kaggle", tmp_path / "raw", tmp_path / "out", size="small") == 0
    [row] = read_rows(tmp_path / "out")
    assert [row[f"n_slices_{part}"] for part in ("read", "left_out", "filled")] == [slices, "0", "0"]
    assert (row["views"], row["n_frames"], row["crop_centre"]) == ("sax", "20", "motion")
    assert float(row["orig_sax_spacing_z"]) == pytest.approx(distance, abs=1e-3)
