"""Raw layouts of DICOM, pickles and PNG, read with pydicom, numpy-only pickles and Pillow: Kaggle, UK Biobank, Rescan,
Landmark.
"""

import csv
import pickle
import warnings
import zipfile
from collections import Counter

import numpy as np
import pydicom
import pytest
from PIL import Image

from cinema_lightning.phantom.command import phantom


def make(tmp_path_factory, dataset, subjects, **more):
    root = tmp_path_factory.mktemp(dataset) / "raw"
    phantom(subjects, root, seed=1, size="small", dataset=dataset, **{"frames": 4, **more})
    return root


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def kaggle(tmp_path_factory):
    return make(tmp_path_factory, "kaggle", 8)


def studies(root):
    return {path.parent.name: path for path in (root / "second-annual-data-science-bowl").glob("*/*/*/study")}


def test_kaggle_layout_and_volumes(kaggle):
    found = studies(kaggle)
    assert set(found) == {"1", "2", "3", "501", "502", "701", "702", "761"}
    assert all(path.parents[1].name == path.parents[2].name for path in found.values())
    top = kaggle / "second-annual-data-science-bowl"
    truth = {row["id"]: row for row in rows(kaggle / "phantom_truth.csv")}
    for part in ("train", "validate"):
        for row in rows(top / f"{part}.csv"):
            assert list(row) == ["Id", "Systole", "Diastole"]
            assert float(row["Diastole"]) == pytest.approx(float(truth[row["Id"]]["lv_edv_true"]), abs=0.06)
            assert float(row["Systole"]) < float(row["Diastole"])
    solution = {row["Id"]: float(row["Volume"]) for row in rows(top / "solution.csv")}
    assert set(solution) == {f"{n}_{phase}" for n in (701, 702, 761) for phase in ("Systole", "Diastole")}


def test_kaggle_headers(kaggle):
    study = studies(kaggle)["1"]
    folders = sorted(study.iterdir())
    assert Counter(folder.name.split("_")[0] for folder in folders) == {"2ch": 1, "4ch": 1, "sax": 8}
    positions = []
    for number in range(8, 16):
        files = [pydicom.dcmread(path) for path in sorted((study / f"sax_{number}").iterdir())]
        assert len(files) == 4 == files[0].CardiacNumberOfImages
        assert [file.TriggerTime for file in files] == [0, 240, 480, 720]
        assert len({file.SeriesInstanceUID for file in files}) == 1
        assert files[0].pixel_array.shape == (files[0].Rows, files[0].Columns)
        positions.append(np.array(files[0].ImagePositionPatient, float))
    cosines = np.array(files[0].ImageOrientationPatient, float)
    assert cosines[:3] @ cosines[3:] == pytest.approx(0, abs=1e-6)
    steps = np.diff(positions, axis=0)
    assert np.linalg.norm(steps, axis=1) == pytest.approx(float(files[0].SpacingBetweenSlices), abs=1e-2)
    assert steps @ cosines[:3] == pytest.approx(0, abs=1e-3)


def test_kaggle_flaws(kaggle):
    found = studies(kaggle)

    def files(study, folder):
        return sorted((found[study] / folder).iterdir())

    uids = Counter(pydicom.dcmread(path).SeriesInstanceUID for path in files("501", "sax_10"))
    assert sorted(uids.values()) == [4, 4]
    assert len(files("701", "sax_10")) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception, match=r"."):
            _ = pydicom.dcmread(files("2", "sax_10")[-1]).pixel_array
    without = [path for path in found["702"].rglob("*.dcm") if "SeriesInstanceUID" not in pydicom.dcmread(path)]
    assert len(without) == 4
    sizes = Counter(
        pydicom.dcmread(sorted(folder.iterdir())[0]).Rows * 1000 + pydicom.dcmread(sorted(folder.iterdir())[0]).Columns
        for folder in found["3"].glob("sax_*")
    )
    assert sorted(sizes.values()) == [1, 7]
    assert "SpacingBetweenSlices" not in pydicom.dcmread(files("502", "sax_9")[0])
    assert not any(pydicom.dcmread(path).pixel_array.any() for path in found["761"].rglob("*.dcm"))


@pytest.fixture(scope="module")
def ukb(tmp_path_factory):
    return make(tmp_path_factory, "ukb", 5)


def test_ukb_archives_and_manifests(ukb):
    names = sorted(path.name for path in ukb.glob("*_2020?_*"))
    assert len(names) == 10
    assert {name.split("_", 1)[1].removesuffix(".zip") for name in names} == {
        *("20208_2_0", "20209_2_0", "20208_3_0", "20209_3_0"),
    }
    # The second visit is the same person's.
    assert len({name.split("_")[0] for name in names}) == 4
    kinds = Counter()
    for name in names:
        path = ukb / name
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
                members = {info.filename: archive.read(info) for info in archive.infolist()}
        else:
            members = {file.name: file.read_bytes() for file in path.iterdir()}
        (manifest,) = [member for member in members if member.startswith("manifest.")]
        kinds[path.suffix, manifest] += 1
        lines = members.pop(manifest).decode().splitlines()
        header = lines[0].split(",")
        assert {"filename", "series discription"} <= set(header)
        assert all("Aug 30, 2015" in line for line in lines[1:])
        # The comma of the date gives one cell too many.
        assert {len(line.split(",")) for line in lines[1:]} == {len(header) + 1}
        assert {line.split(",")[0] for line in lines[1:]} == set(members)
        series = {line.split(",")[header.index("series discription")] for line in lines[1:]}
        if "_20208_" in name:
            assert series == {f"CINE_segmented_LAX_{n}Ch" for n in (2, 3, 4)}
        else:
            assert series == {
                *(f"CINE_segmented_SAX_b{n}" for n in range(1, 9)),
                *("CINE_segmented_SAX_b3_InlineVF", "Inline_VF_Results"),
            }
    assert {suffix for suffix, _ in kinds} == {"", ".zip"}
    assert {manifest for _, manifest in kinds} == {"manifest.csv", "manifest.cvs"}


def test_ukb_images(ukb):
    folder = next(path for path in ukb.glob("*_20208_2_0") if path.is_dir())
    files = [pydicom.dcmread(path) for path in folder.glob("*.dcm")]
    assert {file.file_meta.TransferSyntaxUID for file in files} == {pydicom.uid.RLELossless}
    assert all(file.pixel_array.std() > 0 for file in files)
    assert len({file.SOPInstanceUID for file in files}) == len(files) == 12


def test_ukb_outcomes(ukb):
    table = rows(ukb / "outcomes.csv")
    imaged = {path.name.split("_")[0] for path in ukb.glob("*_2020?_*")}
    assert {row["eid"] for row in table} - imaged == {str(int(min(imaged)) - 1)}
    assert imaged < {row["eid"] for row in table}
    for row in table:
        assert row["sex"] in "01"
        assert 18 < float(row["age"]) < 90
        assert {row[name] for name in ("diabetes", "hypertension", "cancer", "event")} <= {"0", "1"}
        assert int(row["time"]) > 0


class Plain(pickle.Unpickler):
    """Loads arrays and nothing else."""

    def find_class(self, module, name):
        assert module.split(".")[0] == "numpy", f"{module}.{name}"
        return super().find_class(module, name)


def unpickle(path):
    with path.open("rb") as file:
        return Plain(file).load()


@pytest.fixture(scope="module")
def rescan(tmp_path_factory):
    return make(tmp_path_factory, "rescan", 8)


def test_rescan_folders(rescan):
    top = rescan / "pickle"
    train = sorted(path.relative_to(top).as_posix() for path in (top / "train").glob("*/*"))
    assert [name.split("/")[1] for name in train] == ["group_1"] * 3 + ["group_2"] * 2
    assert sorted(path.name for path in (top / "test").iterdir()) == ["scan_00_A", "scan_00_B"]
    for folder in [*(top / "train").glob("*/*"), *(top / "test").iterdir()]:
        assert {path.name for path in folder.iterdir()} == {
            *("2C.pickle", "4C.pickle", "SAX.pickle", "SAX_segs.pickle"),
        }
    for folder in (top / "test_retest_100").glob("[0-9]*"):
        assert {path.name for path in folder.iterdir()} == {"2C.pickle", "4C.pickle", "SAX.pickle"}


def test_rescan_pairs_differ_by_position_and_noise_only(rescan):
    top = rescan / "pickle" / "test_retest_100"
    table = rows(top / "labels.csv")
    assert list(table[0]) == ["A", "B1", "B2", "EDV_A", "ESV_A", "EDV_B1", "EDV_B2", "ESV_B1", "ESV_B2"]
    assert [bool(row["B2"]) for row in table] == [True, False]
    truth = {row["id"]: row for row in rows(rescan / "phantom_truth.csv")}
    for number, row in enumerate(table):
        scans = [scan for scan in ("A", "B1", "B2") if row[scan]]
        known = [truth[f"scan_{number:02d}_{scan}"] for scan in scans]
        assert len({(cells["phantom"], cells["lv_edv_true"], cells["lv_esv_true"]) for cells in known}) == 1
        volumes = [float(row[f"EDV_{scan}"]) for scan in scans]
        assert max(volumes) / min(volumes) < 1.25
        contents = [unpickle(top / row[scan] / "SAX.pickle") for scan in scans]
        for one in contents[1:]:
            assert one["image_voxels"].shape == contents[0]["image_voxels"].shape
            assert np.abs(one["ImagePositionPatient"] - contents[0]["ImagePositionPatient"]).max() > 1
            assert not np.array_equal(one["image_voxels"], contents[0]["image_voxels"])
            levels = [np.percentile(content["image_voxels"], 99) for content in (one, contents[0])]
            assert levels[0] == pytest.approx(levels[1], rel=0.25)


def test_rescan_arrays(rescan):
    folder = rescan / "pickle" / "test" / "scan_00_A"
    sax, maps = unpickle(folder / "SAX.pickle"), unpickle(folder / "SAX_segs.pickle")["image_segmentation"]
    voxels = sax["image_voxels"]
    assert voxels.shape == maps.shape == (8, 4, 102, 83)  # z, t, y, x
    assert set(np.unique(maps)) == {0, 1, 2, 3}
    assert unpickle(folder / "4C.pickle")["image_voxels"].shape == (4, 83, 83)
    x, y = sax["PixelSpacing"]
    assert (x, y) == pytest.approx((3.5, 3.5))
    # Reversed, the slices run along row x column.
    cosines = sax["ImageOrientationPatient"]
    normal = np.cross(cosines[:3], cosines[3:])
    steps = np.diff(sax["ImagePositionPatient"][::-1], axis=0)
    assert steps == pytest.approx(np.tile(normal * sax["SliceSpacing"], (7, 1)), abs=1e-3)
    truth = next(row for row in rows(rescan / "phantom_truth.csv") if row["id"] == "test_scan_00_A")
    volumes = (maps == 1).sum(axis=(0, 2, 3)) * x * y * sax["SliceSpacing"] / 1000
    assert volumes.max() == pytest.approx(float(truth["lv_edv"]), rel=1e-3)
    assert volumes.min() == pytest.approx(float(truth["lv_esv"]), rel=1e-3)


def test_landmark(tmp_path_factory):
    root = make(tmp_path_factory, "landmark", 5, frames=6)
    turns = {"lax_2c": [], "lax_4c": []}
    truth = {row["id"]: row for row in rows(root / "phantom_truth.csv")}
    for view, found in turns.items():
        with (root / "raw" / f"{view}.csv").open(newline="") as file:
            lines = list(csv.reader(file))
        assert {len(line) for line in lines} == {6}
        assert lines[0][:4] == ["phantom", "0000__00", view, "1"]  # no header
        assert [line[3] for line in lines] == ["1", "2", "3"] * 10
        for first in range(0, len(lines), 3):
            uid = lines[first][1]
            image, mask = (
                np.asarray(Image.open(root / "raw" / view / kind / f"{uid}.png")) for kind in ("images", "masks")
            )
            assert image.shape == mask.shape == (308, 332)
            assert set(np.unique(mask)) == {0, 85, 170, 255}
            points = []
            for line, level in zip(lines[first : first + 3], (85, 170, 255), strict=True):
                y, x = np.nonzero(mask == level)
                assert (x.mean(), y.mean()) == pytest.approx((int(line[4]), int(line[5])), abs=1.5)
                points.append((x.mean(), y.mean()))
            (x1, y1), (x2, y2), (x3, y3) = points
            turn = (y2 - y1) * (x3 - x2) - (x2 - x1) * (y3 - y2)
            found.append(turn > 0)
            upright = turn > 0 if view == "lax_2c" else turn < 0
            assert upright == (truth[f"{uid}_{view}"]["flipped"] == "0")
    assert all(len(set(found)) == 2 for found in turns.values())  # some are mirrored
