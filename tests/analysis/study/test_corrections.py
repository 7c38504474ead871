"""What a person corrects is measured again from what the networks made, and stays until the networks run again."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pydicom
import pytest

from cinema_lightning.analysis.networks import Networks
from cinema_lightning.cli import main


def _run(*arguments) -> int:
    return main(["analyse", *map(str, arguments)])


def _row(out: Path, key: str = "") -> dict[str, str]:
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        return next(row for row in csv.DictReader(file) if key in row["id"])


def _record(out: Path, key: str) -> dict:
    return json.loads((out / key / "result.json").read_text())


def test_corrections_stay_and_dicom_follows_them(study, network, tmp_path, capsys):
    weights, file, out = tmp_path / "w.ckpt", tmp_path / "c.yaml", tmp_path / "out"
    weights.write_bytes(b"1")
    places = [
        study(uid=f"1.2.826.0.1.{name}", tags={"PatientID": f"P{name}"}).write(tmp_path / str(name), ("SAX",))
        for name in (1, 2)
    ]
    with_weights = (*places, "--weights", weights, "--dicom", "--out", out)
    assert _run(*with_weights) == 0
    sources = [json.loads(path.read_text()) for path in (tmp_path / "out.private" / "studies").iterdir()]
    key = next(one["id"] for one in sources if one["source"] == str(places[0]))
    dicom, seen = tmp_path / "out.dicom" / key, network.seen
    assert _record(out, key)["views"]["sax"]["phases"]["lv"]["ed"] == 11

    # What cannot be done is said, and forgets nothing.
    (tmp_path / "Doe").mkdir()
    (tmp_path / "Doe" / "edited.nii.gz").write_bytes(b"no image")
    for text, sentence in (("ed: 99", "frame 99"), ("masks: {sax: Doe/edited.nii.gz}", "'masks.sax'")):
        file.write_text(f"{key}: {{{text}}}")
        assert _run(*places, "--out", out, "--corrections", file) == 1
        failures = (out / "failures.csv").read_text()
        assert sentence in failures
        assert f"result of before, {key}, stays" in failures
        assert "Doe" not in failures
        assert "Doe" not in capsys.readouterr().err

    file.write_text(f"{key}: {{ed: 10}}")
    assert _run(*places, "--out", out, "--corrections", file) == 0
    assert not (out / "failures.csv").exists()
    assert _row(out, key)["lv_ed_frame"] == "10"
    frame = pydicom.dcmread(dicom / "ed.dcm").ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    assert frame.ReferencedSOPInstanceUID.endswith(".11")  # instances count from 1

    assert _run(*with_weights) == 0  # the same command as at first keeps it
    assert (network.seen, _row(out, key)["lv_ed_frame"], _row(out, key)["corrected"]) == (seen, "10", "True")

    assert _run(*places, "--out", out) == 1  # other weights would undo it
    assert f"corrected as {key}" in (out / "failures.csv").read_text()
    assert _row(out, key)["lv_ed_frame"] == "10"
    seen = network.seen

    file.write_text(f"{key}: {{basal: 3}}")  # too few slices are left: no numbers, so no report of them
    assert _run(*places, "--out", out, "--corrections", file) == 0
    assert _row(out, key)["quality"] == "refuse"
    assert {path.name for path in dicom.iterdir()} == {"ed.dcm", "es.dcm"}

    next(places[0].iterdir()).touch()
    assert _run(places[0], "--out", out, "--corrections", file) == 2
    assert "files have changed since" in capsys.readouterr().err


def test_landmarks_and_other_series(study, networks, use, tmp_path, capsys):
    folder, out, file = study().write(tmp_path / "s"), tmp_path / "out", tmp_path / "c.yaml"
    assert _run(folder, "--out", out) == 0
    before = _row(out)
    assert (before["lv_ed_frame"], before["lv_es_frame"]) == ("11", "4")
    from_the_formula = _excursion(11, 4)
    walls = {name: float(before[f"mapse_{name}"]) for name in ("lateral", "septal", "anterior", "inferior")}
    assert walls["lateral"] == pytest.approx(14 * from_the_formula, abs=0.01)
    assert walls["septal"] == pytest.approx(10 * from_the_formula, abs=0.01)
    assert sorted((walls["anterior"], walls["inferior"])) == pytest.approx(
        [10 * from_the_formula, 14 * from_the_formula], abs=0.01
    )
    lengths = 95 - 12 * np.array([1 - _fill(frame) for frame in range(12)])
    strain = 100 * (lengths.min() / lengths[11] - 1)
    for name in ("long_axis_strain_2c", "long_axis_strain_4c", "long_axis_strain"):
        assert float(before[name]) == pytest.approx(strain, abs=0.02)

    seen = networks.masks["sax"].seen
    file.write_text("ed: 10")
    assert _run(folder, "--out", out, "--corrections", file) == 0
    assert float(_row(out)["mapse_lateral"]) == pytest.approx(14 * _excursion(10, 4), abs=0.01)
    assert networks.masks["sax"].seen == seen
    two_chamber = {wall: _row(out)[f"mapse_{wall}"] for wall in ("anterior", "inferior")}
    networks.points["lax_2c"].way = 20

    # The right 2CH (series 13) in the place of the left one, and the stack by its series: both are segmented anew.
    file.write_text("series: {lax_2c: 13, sax: [1, 2, 3, 4, 5, 6, 7, 8]}")
    assert _run(folder, "--out", out, "--corrections", file) == 0
    assert networks.masks["sax"].seen == seen + 24
    record = _record(out, before["id"])
    assert [line["taken_for"] for line in record["series"]] == ["sax"] * 8 + [
        "none",
        "lax_4c",
        "lax_3c",
        "none",
        "lax_2c",
    ]
    assert record["views"]["sax"]["size"][2] == 8
    assert re.search("lax_2c of series 13.*SHA-256", record["corrections"][0])
    assert _row(out)["weights"] == before["weights"]
    row = _row(out)
    way = 20 * _excursion(int(row["lv_ed_frame"]), int(row["lv_es_frame"]))
    assert max(float(row[f"mapse_{wall}"]) for wall in two_chamber) == pytest.approx(way, abs=0.01)
    # And back: masks and landmarks are those of the series that the geometry finds.
    again = tmp_path / "again.yaml"
    again.write_text("ed: 10")
    assert _run(folder, "--out", out, "--corrections", again) == 0
    assert {wall: _row(out)[f"mapse_{wall}"] for wall in two_chamber} == two_chamber
    assert _record(out, before["id"])["views"]["sax"]["size"][2] == 9
    assert networks.masks["sax"].seen == seen + 24

    use(Networks(networks.masks, networks.points, {"weights_1": "another sha256:11"}))
    assert _run(folder, "--out", out, "--corrections", file) == 2
    assert "other --weights" in capsys.readouterr().err


def _fill(frame: int) -> float:
    """How full the heart of formulas is in a frame of 12."""
    phase = frame / 12
    if 0.9 > phase > 0.3:
        return 0.5 * (1 - np.cos(np.pi * (phase - 0.3) / 0.6))
    return 0.5 * (1 + np.cos(2 * np.pi * (phase - 0.9)))


def _excursion(ed: int, es: int) -> float:
    """Share of the hinges' whole way between two frames."""
    return _fill(ed) - _fill(es)
