import csv
import shutil
import zipfile
from pathlib import Path

import pytest

from cinema_lightning.data.store import open_series, series_path
from cinema_lightning.datasets.ukb import read_manifest
from cinema_lightning.errors import CinemaError
from cinema_lightning.prepare.command import prepare

HEADER = "filename,patientid,acquisition date,series discription,comment\n"


def _archive(folder: Path, write_cine, series: dict[str, tuple[str, float]], manifest="manifest.cvs") -> Path:
    """One bulk archive as a folder: series description -> plane and height of the slice."""
    lines = []
    for name, (plane, z) in series.items():
        made = folder / "made"
        write_cine(made, plane, z=z, seed=len(lines), frames=3)
        for path in sorted(made.iterdir()):
            target = folder / f"{name}.{path.name}"
            path.rename(target)
            lines.append(f"{target.name},1000001,Aug 30, 2015,{name},\n")
        made.rmdir()
    (folder / manifest).write_text(HEADER + "".join(lines))
    return folder


def _participant(
    raw: Path, write_cine, eid="1000001", visit=2, zipped=True, slices=(1, 2, 3), sub=""
) -> dict[str, Path]:
    long_axis = {f"CINE_segmented_LAX_{n}Ch": ("4ch" if n == 4 else "2ch", 0.0) for n in (2, 3, 4)}
    short_axis = {f"CINE_segmented_SAX_b{n}": ("sax", 30.0 + 10 * (n - 1)) for n in slices}
    # Not images, though their names hold real ones.
    extra = {"CINE_segmented_SAX_b1_InlineVF": ("4ch", 0.0), "Inline_VF_Results": ("4ch", 0.0)}
    paths = {}
    for field, series in (("20208", long_axis), ("20209", short_axis | extra)):
        folder = raw / sub / f"{eid}_{field}_{visit}_0"
        _archive(folder, write_cine, series)
        if zipped:
            shutil.make_archive(str(folder), "zip", folder)
            shutil.rmtree(folder)
            folder = folder.with_name(folder.name + ".zip")
        paths[field] = folder
    return paths


def _rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def test_zips_and_folders_give_the_same(tmp_path, write_cine):
    _participant(tmp_path / "zips", write_cine)
    _participant(tmp_path / "folders", write_cine, zipped=False, sub="all of it é")
    for kind in ("zips", "folders"):
        assert prepare("ukb", tmp_path / kind, tmp_path / f"out_{kind}") == 0
        row = _rows(tmp_path / f"out_{kind}" / "cohort.csv")["1000001_2"]
        assert (row["subject"], row["split"]) == ("1000001", "")
        assert row["views"] == "sax lax_2c lax_3c lax_4c"
        assert (row["n_frames"], row["n_slices"]) == ("3", "3")
    for view in ("sax", "lax_2c", "lax_3c", "lax_4c"):
        one, two = (
            open_series(series_path(tmp_path / f"out_{kind}", "1000001_2", view)) for kind in ("zips", "folders")
        )
        assert (one.read() == two.read()).all()
        assert one.shape == ((192, 192, 3) if view == "sax" else (256, 256))


def test_outcomes_are_joined_by_eid(tmp_path, write_cine):
    for eid, visit in (("1000001", 2), ("1000001", 3), ("1000002", 2)):
        _participant(tmp_path / "raw", write_cine, eid=eid, visit=visit)
    table = tmp_path / "outcomes.csv"
    table.write_text(
        "eid,Age,sex,BMI,diabetes,hypertension,cancer,time,event\n1000001,61,0,25.5,1,0,0,1200,1\n9,50,1,,,,,,\n8,5,1,,,,,,\n"
    )
    out = tmp_path / "out"
    assert prepare("ukb", tmp_path / "raw", out, outcomes=table) == 0
    rows = _rows(out / "cohort.csv")
    assert rows.keys() == {"1000001_2", "1000001_3", "1000002_2"}
    row = rows["1000001_3"]
    assert (row["age"], row["sex"], row["bmi"], row["diabetes"], row["time"], row["event"]) == (
        "61",
        "F",
        "25.5",
        "1",
        "1200",
        "1",
    )
    assert rows["1000002_2"]["age"] == ""
    with (out / "warnings.csv").open() as file:
        warnings = [(row["id"], row["reason"]) for row in csv.DictReader(file)]
    assert ("1000002_2", "outcomes.csv has no row for EID 1000002") in warnings
    assert ("", "outcomes.csv: 2 EIDs have no images, e.g. 9, 8") in warnings
    table.write_text("participant,age\n1,2\n")
    with pytest.raises(CinemaError, match="lacks the column 'eid'; it has participant, age"):
        prepare("ukb", tmp_path / "raw", out, outcomes=table)
    table.write_text("eid,age\n1000001,2\n1000001,3\n")
    with pytest.raises(CinemaError, match="EID 1000001 twice"):
        prepare("ukb", tmp_path / "raw", out, outcomes=table)


def test_manifest_dates_and_columns():
    text = HEADER + "a.dcm,1,Aug 30, 2015,S1,x\nb.dcm,1,Sept 3, 2016,S1,\n"
    assert read_manifest(text, "here") == {"S1": ["a.dcm", "b.dcm"]}
    with pytest.raises(CinemaError, match="row 2: 6 cells for 5 columns"):
        read_manifest(HEADER + "a.dcm,1,one,two,S1,x\n", "here")
    with pytest.raises(CinemaError, match="lacks the column 'series discription'"):
        read_manifest("filename,date\n", "here")
    with pytest.raises(CinemaError, match="lacks the column 'filename'"):
        read_manifest("", "here")


def test_bad_archives_fail_alone(tmp_path, write_cine):
    raw = tmp_path / "raw"
    _participant(raw, write_cine, eid="1")
    cut = _participant(raw, write_cine, eid="2")["20209"]
    cut.write_bytes(cut.read_bytes()[:5000])
    _participant(raw, write_cine, eid="3", slices=(1, 2, 5, 6))
    _participant(raw, write_cine, eid="6", slices=(1, 2, 4))
    _participant(raw, write_cine, eid="4")["20208"].unlink()
    (_participant(raw, write_cine, eid="5", zipped=False)["20209"] / "manifest.cvs").unlink()
    assert prepare("ukb", raw, tmp_path / "out") == 1
    failures = {name: row["reason"] for name, row in _rows(tmp_path / "out" / "failures.csv").items()}
    assert failures.keys() == {"2_2", "3_2", "5_2"}
    assert "half downloaded" in failures["2_2"]
    assert "4 usable slices, but at 10.0 mm from one to the next there should be 6" in failures["3_2"]
    rows = _rows(tmp_path / "out" / "cohort.csv")
    assert (rows["6_2"]["n_slices"], rows["6_2"]["n_slices_read"], rows["6_2"]["n_slices_filled"]) == ("4", "3", "1")
    assert {name: row["crop_centre"] for name, row in rows.items()} == {
        "1_2": "planes",
        "4_2": "motion",
        "6_2": "planes",
    }
    assert rows["4_2"]["views"] == "sax"
    assert "no manifest.csv or manifest.cvs" in failures["5_2"]


@pytest.mark.parametrize(
    "name", ["../secret.dcm", "/etc/secret.dcm", "a/../../secret.dcm", "C:\\secret.dcm", "..\\secret.dcm"]
)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_manifest_may_not_name_files_outside(tmp_path, write_cine, write_dicom, name, zipped):
    folder = _participant(tmp_path / "raw", write_cine, zipped=False)["20208"]
    manifest = folder / "manifest.cvs"
    lines = manifest.read_text().splitlines()
    lines[1] = ",".join([name, *lines[1].split(",")[1:]])
    manifest.write_text("\n".join(lines))
    if zipped:
        with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as file:
            for path in folder.iterdir():
                file.write(path, path.name)
        shutil.rmtree(folder)
    assert prepare("ukb", tmp_path / "raw", tmp_path / "out") == 1
    assert "outside" in _rows(tmp_path / "out" / "failures.csv")["1000001_2"]["reason"]


def test_a_link_may_not_lead_outside(tmp_path, write_cine):
    folder = _participant(tmp_path / "raw", write_cine, zipped=False)["20208"]
    inside = sorted(folder.glob("*.dcm"))[0]
    secret = tmp_path / "secret.dcm"
    inside.rename(secret)
    inside.symlink_to(secret)
    assert prepare("ukb", tmp_path / "raw", tmp_path / "out") == 1
    assert "points outside" in _rows(tmp_path / "out" / "failures.csv")["1000001_2"]["reason"]


def test_wrong_folder(tmp_path):
    with pytest.raises(CinemaError, match="looked for EID_20208_2_0"):
        prepare("ukb", tmp_path, tmp_path / "out")
