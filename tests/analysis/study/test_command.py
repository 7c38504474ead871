"""``cinema analyse`` from outside: files in, numbers against the heart of formulas, and what is written."""

import csv
import json
import os
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from cinema_lightning.analysis import command
from cinema_lightning.analysis.study import analyse
from cinema_lightning.cli import main
from cinema_lightning.errors import CinemaError


def _run(*arguments) -> int:
    return main(["analyse", *map(str, arguments)])


def _rows(out: Path, name: str = "results.csv") -> list[dict[str, str]]:
    with (out / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _record(out: Path) -> dict:
    (path,) = out.glob("*/result.json")
    return json.loads(path.read_text())


def test_volumes_of_a_study_against_the_truth(study, network, tmp_path):
    made = study()
    folder = made.write(tmp_path / "s")
    out = tmp_path / "out"
    assert _run(folder, "--out", out) == 0
    (row,) = _rows(out)
    lv, rv = (np.array(made.volumes[side]) for side in ("lv", "rv"))
    assert float(row["lv_edv"]) == pytest.approx(lv.max(), rel=0.02)
    assert float(row["lv_esv"]) == pytest.approx(lv.min(), rel=0.03)
    assert float(row["rv_edv"]) == pytest.approx(rv.max(), rel=0.05)
    assert float(row["heart_rate"]) == pytest.approx(60_000 / 900, abs=0.1)
    record = _record(out)
    phases = record["views"]["sax"]["phases"]["lv"]
    assert (abs(phases["ed"] - 11) <= 1, abs(phases["es"] - 4) <= 1) == (True, True)
    assert network.seen == 12
    where = out / record["id"]
    masks = nibabel.load(where / "sax.nii.gz")
    assert masks.shape == (64, 64, 9, 12)
    assert np.asarray(masks.dataobj).max() == 3
    assert len(_rows(where, "sax_volumes.csv")) == 12
    assert [line["taken_for"] for line in _rows(where, "series.csv")][-1] == "none"
    with Image.open(where / "sax.gif") as cine:
        assert cine.n_frames == 12
    assert {path.name for path in where.iterdir()} >= {"sax_ed.png", "sax_es.png"}
    assert len(list((where / "series").iterdir())) == 13


def test_python_gives_the_same_numbers(study, network, tmp_path):
    folder = study().write(tmp_path / "s", ("SAX",))
    result = analyse(folder)
    assert _run(folder, "--out", tmp_path / "out") == 0
    for name, number in _record(tmp_path / "out")["numbers"].items():
        value = result.measured.numbers[name]
        assert (number is None and (value is None or not np.isfinite(value))) or number == pytest.approx(
            value, rel=1e-5
        )


def test_fast_looks_at_fewer_frames(study, network, tmp_path):
    made = study(frames=30)
    folder = made.write(tmp_path / "s", ("SAX",))
    assert _run(folder, "--out", tmp_path / "out", "--fast") == 0
    assert network.seen <= 12
    (row,) = _rows(tmp_path / "out")
    lv = np.array(made.volumes["lv"])
    assert float(row["lv_ef"]) == pytest.approx((1 - lv.min() / lv.max()) * 100, abs=3)
    assert len(_rows(tmp_path / "out" / row["id"], "sax_volumes.csv")) == network.seen


def test_a_refused_study_has_reasons_and_no_numbers(study, network, tmp_path):
    folder = study(gap=18.0, slices=6).write(tmp_path / "s", ("SAX",))
    assert _run(folder, "--out", tmp_path / "out") == 0
    (row,) = _rows(tmp_path / "out")
    assert row["quality"] == "refuse"
    assert "18" in row["reasons"]
    assert {row[name] for name in ("lv_edv", "lv_ef", "lv_mass", "rv_esv")} == {""}
    assert (tmp_path / "out" / row["id"] / "sax_ed.png").is_file()  # for looking at


def test_a_stack_with_holes_is_refused_and_its_other_views_are_kept(study, network, tmp_path):
    folder = study(skip=(3, 4)).write(tmp_path / "s", ("SAX", "4CH"))
    assert _run(folder, "--out", tmp_path / "out") == 0
    (row,) = _rows(tmp_path / "out")
    assert (row["quality"], row["views"]) == ("refuse", "lax_4c")
    assert "incomplete" in row["reasons"]


def test_many_studies_resume_and_one_bad_one_stops_nothing(study, network, tmp_path, capsys):
    for number in range(3):
        study(uid=f"1.2.826.0.1.{number}", tags={"PatientID": f"P{number}"}).write(
            tmp_path / "all" / f"s{number}", ("SAX",)
        )
    (tmp_path / "all" / "zbad").mkdir()
    (tmp_path / "all" / "zbad" / "a").write_bytes(b"no")
    (tmp_path / "list.txt").write_text("all/s0\nall/s1\nall/s2\nall/zbad\n")
    out = tmp_path / "out"
    assert _run(tmp_path / "list.txt", "--out", out, "--shard", "1/2") == 0
    assert len(_rows(out)) == 2
    assert _run(tmp_path / "list.txt", "--out", out) == 1
    assert len(_rows(out)) == 3
    (failure,) = _rows(out, "failures.csv")
    assert "readable DICOM" in failure["reason"]
    assert "study 4 failed" in capsys.readouterr().err
    seen = network.seen
    assert seen == 36  # each study once
    assert _run(*sorted((tmp_path / "all").glob("s*")), "--out", out) == 0
    assert network.seen == seen
    # A mended study leaves the list of failures.
    (tmp_path / "all" / "zbad" / "a").unlink()
    study(uid="1.2.826.0.1.9", tags={"PatientID": "P9"}).write(tmp_path / "all" / "zbad" / "b", ("SAX",))
    assert _run(tmp_path / "list.txt", "--out", out) == 0
    assert not (out / "failures.csv").exists()
    assert len(_rows(out)) == 4
    # A folder of studies is many, a folder of series is one.
    assert _run(tmp_path / "all", "--out", out) == 0
    assert network.seen == seen + 12


def test_errors_that_nobody_foresaw_stop_one_study_and_quote_nothing(study, network, tmp_path, monkeypatch, capsys):
    places = [study(uid=f"1.2.{n}", tags={"PatientID": f"P{n}"}).write(tmp_path / f"s{n}", ("SAX",)) for n in range(2)]
    own, first = command.analyse_study, []

    def breaks(found, *arguments, **options):
        if not first:
            first.append(found)
            raise ValueError("the name of a person")
        return own(found, *arguments, **options)

    monkeypatch.setattr(command, "analyse_study", breaks)
    assert _run(*places, "--out", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert "not foreseen (ValueError in command.py" in error
    assert "name of a person" not in error
    assert len(_rows(tmp_path / "out")) == 1


def test_weights_that_are_not_there_end_the_run_at_once(study, tmp_path, capsys):
    places = [study(uid=f"1.2.{n}").write(tmp_path / f"s{n}", ("SAX",)) for n in range(2)]
    assert _run(*places, "--weights", tmp_path / "no.ckpt", "--out", tmp_path / "out") == 2
    assert "no.ckpt" in capsys.readouterr().err
    assert not (tmp_path / "out" / "failures.csv").exists()


def test_other_weights_do_it_again(study, network, tmp_path):
    folder = study().write(tmp_path / "s", ("SAX",))
    weights = tmp_path / "w.ckpt"
    weights.write_bytes(b"1")
    for content, seen in ((b"1", 12), (b"1", 12), (b"22", 24)):
        if weights.read_bytes() != content:
            weights.write_bytes(content)
        assert _run(folder, "--weights", weights, "--out", tmp_path / "out") == 0
        assert network.seen == seen


def test_one_study_given_twice_is_said(study, network, tmp_path, capsys):
    one = study().write(tmp_path / "a", ("SAX",))
    two = study().write(tmp_path / "b", ("SAX",))
    assert _run(one, two, "--out", tmp_path / "out") == 1
    assert "same study" in capsys.readouterr().err
    assert len(_rows(tmp_path / "out")) == 1


def test_corrections_are_measured_without_the_network(study, network, tmp_path, capsys):
    made = study()
    folder = made.write(tmp_path / "s", ("SAX",))
    out = tmp_path / "out"
    assert _run(folder, "--out", out) == 0
    before, seen = _rows(out)[0], network.seen
    where = out / before["id"]
    masks = nibabel.load(where / "sax.nii.gz")
    labels = np.asarray(masks.dataobj).copy()
    labels[:, :, 5][labels[:, :, 5] == 3] = 2  # a slice's blood becomes wall
    nibabel.save(nibabel.Nifti1Image(labels, masks.affine), tmp_path / "edited.nii.gz")
    ed = _record(out)["views"]["sax"]["phases"]["lv"]["ed"]
    own = float((np.asarray(masks.dataobj)[:, :, 5, ed] == 3).sum() * 0.09)
    (tmp_path / "c.yaml").write_text(f"{before['id']}:\n  masks: {{sax: edited.nii.gz}}\n")
    assert _run(folder, "--out", out, "--corrections", tmp_path / "c.yaml") == 0
    record = _record(out)
    assert record["numbers"]["lv_edv"] is None  # a hole: the gate judges corrected masks, too
    assert not (where / "sax_volumes.csv").exists()
    after = float((np.asarray(nibabel.load(where / "sax.nii.gz").dataobj)[..., ed] == 3).sum() * 0.09)
    assert after == pytest.approx(float(before["lv_edv"]) - own, abs=0.1)
    assert "masks of sax" in record["corrections"][0]
    assert "SHA-256" in record["corrections"][0]
    # ED, ES and the basal slice, on the network's own masks again.
    (tmp_path / "c.yaml").write_text("ed: 10\nes: 4\nbasal: 7\n")
    assert _run(folder, "--out", out, "--corrections", tmp_path / "c.yaml") == 0
    record = _record(out)
    assert record["views"]["sax"]["phases"]["lv"] == {"ed": 10, "es": 4}
    kept = np.asarray(nibabel.load(where / "sax.nii.gz").dataobj)
    assert not kept[:, :, 8].any()
    assert kept[:, :, :8].any(axis=(0, 1, 3)).all()
    assert len(record["corrections"]) == 3
    assert network.seen == seen
    for text, sentence in (
        ("ed: 99\n", "frame 99, which is not there"),
        ("basal: 30\n", "slices 0 to 8"),
        ("edd: 1\n", "'edd'"),
        ("masks: {sax: none.nii.gz}\n", "missing"),
        ("abc:\n  ed: 1\n", "names? the study abc"),
    ):
        (tmp_path / "c.yaml").write_text(text)
        assert _run(folder, "--out", out, "--corrections", tmp_path / "c.yaml") == 2
        error = capsys.readouterr().err
        assert re.search(sentence, error), error


def test_nifti_of_a_cine_and_of_ed_and_es(network, tmp_path):
    rng = np.random.default_rng(0)
    frames = np.full((40, 40, 9, 12), 60) + rng.integers(0, 40, (40, 40, 9, 12))
    x, y = np.indices((40, 40)) - 20
    for frame in range(12):
        radius = 6 + 2 * np.cos(2 * np.pi * frame / 12)
        frames[np.hypot(x, y) < 10, :, frame] = 250
        frames[np.hypot(x, y) < radius, :, frame] = 1000
        frames[np.hypot(x + 16, y) < 5, :, frame] = 700
    affine = np.diag([2.0, 2.0, 9.0, 1.0])
    (tmp_path / "one").mkdir()
    nibabel.save(nibabel.Nifti1Image(frames.astype(np.int16), affine), tmp_path / "one" / "sax.nii.gz")
    (tmp_path / "two").mkdir()
    for name, frame in (("ed", 0), ("es", 6)):
        nibabel.save(
            nibabel.Nifti1Image(frames[..., frame].astype(np.int16), affine), tmp_path / "two" / f"sax_{name}.nii.gz"
        )
    cine, two = analyse(tmp_path / "one"), analyse(tmp_path / "two")
    assert cine.segmented["sax"].phases["lv"].ed == 0
    assert abs(cine.segmented["sax"].phases["lv"].es - 6) <= 1
    voxels = [float((np.hypot(x, y) < radius).sum() * 9 * 36 / 1000) for radius in (8, 4)]
    for result in (cine, two):
        curve, phases = result.segmented["sax"].volumes["lv"], result.segmented["sax"].phases["lv"]
        assert [curve[phases.ed], curve[phases.es]] == pytest.approx(voxels, rel=0.1)
    assert (two.study.scanner.kind, two.study.person.sex) == ("nifti", None)
    shutil.copy(tmp_path / "two" / "sax_es.nii.gz", tmp_path / "one")  # a beat of 13 frames, with ES at its start
    with pytest.raises(CinemaError, match="the SAX files hold 1 and 12 frames"):
        analyse(tmp_path / "one")


def test_a_folder_that_cannot_be_written(study, network, tmp_path, capsys):
    folder = study(slices=3).write(tmp_path / "s", ("SAX",))
    (tmp_path / "out").write_text("a file")
    assert _run(folder, "--out", tmp_path / "out") == 2
    assert "cannot be written to" in capsys.readouterr().err
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir(mode=0o500)
        assert _run(folder, "--out", tmp_path / "locked" / "out") == 2
        assert "permissions" in capsys.readouterr().err
