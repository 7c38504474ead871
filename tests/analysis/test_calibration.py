"""From a test's folder to intervals of an analysed study, and where they do not hold."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from cinema_lightning.analysis.calibration import beside, calibration_beside, intervals, read_calibration
from cinema_lightning.analysis.values import Measured, Person, Phases, Result, Scanner, Segmented, Study, View
from cinema_lightning.cli import main
from cinema_lightning.errors import CinemaError

N = 40


@pytest.fixture
def tested(tmp_path):
    """A run whose test has errors in proportion to what its networks disagree by."""
    rng = np.random.default_rng(0)
    run = tmp_path / "runs" / "seg" / "0"
    weights = run / "checkpoints" / "best.ckpt"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()[:16]
    folder = run / "test" / "mine"
    folder.mkdir(parents=True)
    ids = [f"s{i}" for i in range(N)]
    sd = rng.uniform(1, 8, (2, N))
    edv, esv = rng.normal(160, 30, N), rng.normal(70, 10, N)
    found = edv + sd[0] * rng.normal(size=N), esv + sd[1] * rng.normal(size=N)
    cases = pd.DataFrame(
        {
            "id": [*ids, *ids],
            "frame": [0] * N + [7] * N,
            "phase": ["ED"] * N + ["ES"] * N,
            "lv_dice": 0.9,
            "lv_volume_pred": np.concatenate(found),
            "lv_volume_pred_sd": sd.ravel(),
        }
    )
    function = {"id": ids, "subject": ids, "vendor": ["SIEMENS"] * 25 + ["GE MEDICAL SYSTEMS"] * 15}
    function |= {"age": np.linspace(30, 70, N), "ed_frame_pred": 0, "es_frame_pred": 7}
    for name, true, predicted in (("lv_edv", edv, found[0]), ("lv_esv", esv, found[1])):
        function |= {f"{name}_true": true, f"{name}_pred": predicted}
    function |= {"lv_ef_true": 100 * (edv - esv) / edv, "lv_ef_pred": 100 * (found[0] - found[1]) / found[0]}
    cases.to_csv(folder / "cases.csv", index=False)
    pd.DataFrame(function).to_csv(folder / "function.csv", index=False)
    facts = {"kind": "segmentation", "dataset": "mine", "classes": ["background", "LV"], "views": ["sax"]}
    facts |= {"regions": ["lv"], "checkpoint": "best.ckpt", "checkpoint_digest": digest}
    (folder / "test.json").write_text(json.dumps(facts))
    return folder, weights


def analysed(sd=2.0, **scanner) -> Result:
    labels = np.zeros((4, 4, 5, 8), np.uint8)
    curve = np.full(8, 100.0)
    found = Segmented(labels, tuple(range(8)), {"lv": curve}, {"lv": Phases(0, 7)}, {"lv": np.full(8, sd)})
    view = View("sax", labels, np.diag([1.5, 1.5, 10, 1]))
    study = Study("one", {"sax": view}, person=Person("M", 50), scanner=Scanner(**({"vendor": "GE"} | scanner)))
    return Result(study, {"sax": found}, Measured({"lv_edv": 150.0, "lv_esv": 60.0, "lv_ef": 60.0}))


def test_a_test_becomes_intervals(tested):
    folder, weights = tested
    assert main(["calibrate", str(folder)]) == 0
    calibration = calibration_beside([weights])
    assert calibration is not None
    assert calibration.name == "mine, 40 subjects"
    assert calibration.vendors == ("GE", "Siemens")
    made = {one.column: one for one in intervals(analysed(), calibration)}
    assert set(made) == {"lv_edv", "lv_esv", "lv_ef"}
    assert all(one.valid and one.low < one.high and one.coverage == 0.9 for one in made.values())
    # 90% of a normal error of SD 2 is within 3.3 ml; the floor and the ranks of 40 add to it
    assert 3.3 < made["lv_edv"].high - 150 < 14
    wild = {one.column: one for one in intervals(analysed(sd=8), calibration)}
    assert wild["lv_edv"].high > made["lv_edv"].high + 3


def test_outside_of_its_subjects_it_is_not_valid(tested):
    folder, weights = tested
    main(["calibrate", str(folder)])
    calibration = read_calibration(beside(weights))
    philips = intervals(analysed(vendor="Philips"), calibration)
    assert not any(one.valid for one in philips)
    assert "Philips, those were of GE and Siemens" in philips[0].note
    old = analysed()
    aged = Result(Study("one", old.study.views, person=Person("M", 85)), old.segmented, old.measured)
    assert "age of 85 years is outside 30 to 70" in intervals(aged, calibration)[0].note
    assert "not compared: vendor" in intervals(aged, calibration)[0].note


def test_vendors_have_their_own_where_there_are_enough(tested):
    folder, weights = tested
    main(["calibrate", str(folder), "--by", "vendor"])
    calibration = read_calibration(beside(weights))
    assert "of which GE" in intervals(analysed(), calibration)[0].note


def test_other_weights_are_refused(tested, capsys):
    folder, weights = tested
    weights.write_bytes(b"trained again")
    assert main(["calibrate", str(folder)]) == 2
    assert "--checkpoint" in capsys.readouterr().err
    assert main(["calibrate", str(folder), "--checkpoint", str(weights)]) == 2
    assert "the file of now is another one" in capsys.readouterr().err


def _noted(folder, **facts) -> None:
    path = folder / "test.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def test_an_ensemble_is_calibrated_as_a_whole(tested, capsys):
    """Its errors say nothing of one of its networks alone."""
    folder, weights = tested
    other = weights.with_name("other.pt")
    other.write_bytes(b"other weights")
    _noted(folder, other_checkpoints=[f"best.ckpt:{hashlib.sha256(b'other weights').hexdigest()[:16]}"])
    for given in ([], ["--checkpoint", str(weights)]):
        assert main(["calibrate", str(folder), *given]) == 2
        assert "made by 2 files together; name all with --checkpoint" in capsys.readouterr().err
    assert main(["calibrate", str(folder), "--checkpoint", str(weights), "--checkpoint", str(other)]) == 0
    assert calibration_beside([weights]) is None
    assert len(calibration_beside([other, weights]).digests) == 2


def test_turned_images_are_not_what_an_analysis_looks_at(tested, capsys):
    folder, _ = tested
    _noted(folder, tta="flips")
    assert main(["calibrate", str(folder)]) == 2
    assert "test again without tta" in capsys.readouterr().err


def test_calibration_of_weights_that_changed_is_not_used(tested):
    folder, weights = tested
    main(["calibrate", str(folder)])
    weights.write_bytes(b"trained again")
    assert calibration_beside([weights]) is None


def test_too_few_subjects(tested, capsys):
    folder, _ = tested
    table = pd.read_csv(folder / "function.csv")
    table.head(8).to_csv(folder / "function.csv", index=False)
    assert main(["calibrate", str(folder)]) == 2
    assert "too few subjects" in capsys.readouterr().err


def test_a_broken_file_is_said(tmp_path):
    path = tmp_path / "x.calibration.json"
    path.write_text("{}")
    with pytest.raises(CinemaError, match="no calibration"):
        read_calibration(path)
