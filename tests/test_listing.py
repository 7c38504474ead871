"""Folders that went through a Mac, an exFAT disk or a network drive hold more files than were downloaded."""

import shutil
import warnings

import pytest

from cinema_lightning.data.nifti import scan
from cinema_lightning.datasets.base import DATASETS
from cinema_lightning.listing import is_litter, list_paths
from cinema_lightning.phantom.command import phantom
from cinema_lightning.prepare.command import prepare
from cinema_lightning.prepare.record import fingerprint

TWIN = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + b"\0" * 60


def _litter(root) -> None:
    """A twin of each file and folder, the folder of twins that a Mac's zip makes, and the notes of file browsers."""
    paths = list(root.rglob("*"))
    for path in paths:
        twin = root / "__MACOSX" / path.relative_to(root).parent / f"._{path.name}"
        twin.parent.mkdir(parents=True, exist_ok=True)
        for place in (path.with_name(f"._{path.name}"), twin):
            place.write_bytes(TWIN)
        if path.is_dir():
            (path / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
            (path / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    for folder in [path for path in root.iterdir() if path.is_dir() and path.name != "__MACOSX"]:
        shutil.copytree(root / "__MACOSX", folder / "__MACOSX")


@pytest.mark.parametrize("name", ["kaggle", "landmark", "mnms", "rescan", "ukb"])
def test_what_systems_leave_is_passed_over(tmp_path, name):
    raw = tmp_path / "raw"
    phantom(2, raw, seed=3, size="small", dataset=name, frames=3)
    dataset = DATASETS[name]
    before = dataset.cases(raw)
    marks = [fingerprint(dataset, case) for case in before]
    _litter(raw)
    assert dataset.cases(raw) == before
    assert [fingerprint(dataset, case) for case in before] == marks
    out = tmp_path / "out"
    prepare(name, raw, out, size="small")
    for table in ("failures.csv", "warnings.csv"):
        said = (out / table).read_text() if (out / table).is_file() else ""
        assert "._" not in said
        assert "MACOSX" not in said
    assert len((out / "cohort.csv").read_text().splitlines()) > 1


@pytest.mark.parametrize("name", ["acdc", "emidec", "mnms2", "myops"])
def test_what_systems_leave_is_not_listed(tmp_path, name):
    phantom(2, tmp_path, seed=3, size="small", dataset=name, frames=3)
    before = DATASETS[name].cases(tmp_path)
    _litter(tmp_path)
    assert DATASETS[name].cases(tmp_path) == before


def test_plain_nifti_folders(tmp_path):
    for name in ("p1/sax.nii.gz", "p2/sax_ed.nii.gz"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"")
    before = scan(tmp_path)
    _litter(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert scan(tmp_path) == before


def test_names(tmp_path):
    for name in ("._a.dcm", "__MACOSX/a/b.zip", "a/.DS_Store", "x\\Thumbs.db", "@eaDir/a.dcm"):
        assert is_litter(name)
    for name in ("a._b", "a/b.dcm", ".hidden", "_a", "MACOSX.zip"):
        assert not is_litter(name)
    assert list_paths(tmp_path / "nothing") == []
