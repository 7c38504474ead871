"""The phantom as a dataset: its bytes, and what the verbs of datasets say of its store."""

import csv
import gzip
import hashlib
import os
import signal

import pytest

from cinema_lightning import __version__
from cinema_lightning.cli import main
from cinema_lightning.data.store import open_series
from cinema_lightning.datasets.base import DATASETS
from cinema_lightning.errors import CinemaError
from cinema_lightning.phantom import cohort
from cinema_lightning.phantom.command import phantom
from cinema_lightning.prepare.command import prepare
from cinema_lightning.prepare.scratch import scratch_of

# What version 0.1.0 made, before phantoms were made by the runner of preparation; rows count each view's frames since.
PLAIN = {
    "cohort.csv": "101677086a3114ab",
    "landmarks.csv": "e8e35538b52da2e1",
    "phantom.json": "7ddd59d38497b525",
    "phantom_00000/lax_3c.b2nd": "c1a88abadd44c098",
    "phantom_00000/lax_3c_label.b2nd": "b095d83124015990",
    "phantom_00000/row.json": "049b1a00837c6ea5",
    "phantom_00001/lax_3c.b2nd": "52aa04426f1023e7",
    "phantom_00001/lax_3c_label.b2nd": "c01b4a80bdecbd60",
    "phantom_00001/lax_4c.b2nd": "9c4611db8beecb33",
    "phantom_00001/lax_4c_label.b2nd": "4af01cbe182b774a",
    "phantom_00001/row.json": "1957372a811165be",
    "phantom_00001/sax.b2nd": "b057d39273a02fc4",
    "phantom_00001/sax_label.b2nd": "16bdc5023a3128ea",
}
EMIDEC = {
    ".phantom/00000.json": "a4867f559a09f211",
    ".phantom/00001.json": "aa0aba7a1ed7a054",
    "emidec-dataset-1.0.1/Case P001.txt": "2572ccd498b0ab56",
    "emidec-dataset-1.0.1/Case P002.txt": "3970c2fe73882595",
    "emidec-dataset-1.0.1/Case_P001/Contours/Case_P001.nii.gz": "2812b8774ae2d56c",
    "emidec-dataset-1.0.1/Case_P001/Images/Case_P001.nii.gz": "a569743b14c892c9",
    "emidec-dataset-1.0.1/Case_P002/Contours/Case_P002.nii.gz": "c36e3a92789ac683",
    "emidec-dataset-1.0.1/Case_P002/Images/Case_P002.nii.gz": "07fab1c2c3487714",
    "phantom.json": "431d0bd549a991ba",
    "phantom_truth.csv": "ca48c92df8db72ae",
}


def contents(root):
    """File -> digest of what is in it, whatever library compressed it and whichever version says that it made it."""
    out = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        elif path.suffix == ".b2nd":
            series = open_series(path)
            data = series.read().tobytes() + repr(series.info).encode()
        data = data.replace(__version__.encode(), b"0.1.0")
        out[str(path.relative_to(root))] = hashlib.sha256(data).hexdigest()[:16]
    return out


def test_bytes_of_a_store(tmp_path):
    phantom(2, tmp_path, seed=5, size="small", frames=2, missing_views=0.5)
    assert contents(tmp_path) == PLAIN


def test_bytes_of_a_raw_layout(tmp_path):
    phantom(2, tmp_path, seed=5, size="small", dataset="emidec")
    assert contents(tmp_path) == EMIDEC


def test_verify_and_describe_know_phantoms(tmp_path, capsys):
    phantom(3, tmp_path, seed=5, size="small", frames=2)
    assert main(["verify", "phantom", "--root", str(tmp_path), "--full", "true"]) == 0
    assert "phantom: 3 studies, 0 errors" in capsys.readouterr().out
    assert main(["describe", "phantom", "--root", str(tmp_path), "--studies", "1"]) == 0
    assert (tmp_path / "contact_sheet.png").is_file()
    with (tmp_path / "description.csv").open(newline="") as file:
        volumes = {row["split"]: row for row in csv.DictReader(file) if row["column"] == "lv_edv"}
    with (tmp_path / "cohort.csv").open(newline="") as file:
        mean = sum(float(row["lv_edv"]) for row in csv.DictReader(file)) / 3
    assert float(volumes["all"]["mean"]) == pytest.approx(mean)
    assert volumes["all"]["n"] == "3"

    (tmp_path / "phantom_00001" / "sax.b2nd").write_bytes(b"cut")
    assert main(["verify", "phantom", "--root", str(tmp_path)]) == 1
    assert "phantom_00001" in capsys.readouterr().out


def test_nothing_to_prepare(tmp_path, capsys):
    command = ["prepare", "phantom", "--raw", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(command) != 0
    said = capsys.readouterr().err
    assert "Phantoms need no preparation: cinema phantom --out DIR makes them" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()
    with pytest.raises(CinemaError, match="no preparation"):
        prepare("phantom", tmp_path, tmp_path / "out", size="small", shard="1/2", workers=2)


def test_facts():
    facts = DATASETS["phantom"]
    assert facts.labels == {0: "background", 1: "RV blood pool", 2: "myocardium", 3: "LV blood pool"}
    assert facts.classes["pathology"] == ("NOR", "DCM", "HCM", "MINF", "ARV")


@pytest.mark.parametrize("dataset", [None, "emidec"])
def test_a_signal_stops_between_subjects_and_the_next_run_goes_on(tmp_path, monkeypatch, capsys, dataset):
    from cinema_lightning.phantom.raw import runner

    options = {"seed": 5, "size": "small", "frames": 2, "dataset": dataset}
    phantom(3, tmp_path / "whole", **options)
    module = runner if dataset else cohort
    real = module.make_subject

    def signalled(root, index, settings):
        if index == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(root, index, settings)

    monkeypatch.setattr(module, "make_subject", signalled)
    assert phantom(3, tmp_path / "out", **options) == 128 + signal.SIGTERM
    assert "Stopped after 2 of 3 subjects" in capsys.readouterr().out
    assert not (tmp_path / "out" / ".prepare").exists()
    monkeypatch.undo()
    assert phantom(3, tmp_path / "out", **options) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_one_run_at_a_time(tmp_path):
    phantom(1, tmp_path, size="small", frames=2)
    with scratch_of(tmp_path, ""), pytest.raises(CinemaError, match="Another run"):
        phantom(2, tmp_path, size="small", frames=2)
