"""Phantoms that differ in look: who they are stays, truth and labels agree, and 0 is the usual look."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cinema_lightning.data.store import open_series
from cinema_lightning.errors import CinemaError
from cinema_lightning.phantom.acquisition import Acquisition
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.command import phantom
from cinema_lightning.phantom.contrast import CINE
from cinema_lightning.phantom.imaging import Imager
from cinema_lightning.phantom.look import USUAL, draw_look, wave
from cinema_lightning.phantom.subject import draw_subject

SCAN = Acquisition(
    views=("sax",), n_frames=2, sax_size=(96, 96), sax_spacing=(2.0, 2.0), slice_distance=5.0, slice_thickness=5.0
)


def imaged(subject):
    return Imager(Heart(subject), SCAN, [0.0, subject.es_phase]).image("sax")


def test_no_variety_is_the_usual_look():
    assert draw_look(3, 5, 0.0) is USUAL
    assert draw_subject(3, 5) == draw_subject(3, 5, 0.0)


def test_the_person_stays_and_the_look_is_drawn_by_the_number():
    usual, one, half = (draw_subject(3, 5, variety) for variety in (0.0, 1.0, 0.5))
    assert one == draw_subject(3, 5, 1.0)
    assert replace(one, look=USUAL, rv_edv=usual.rv_edv) == usual
    assert one.look != draw_look(3, 6, 1.0) != USUAL
    assert half.look.trabeculae - 1 == pytest.approx((one.look.trabeculae - 1) / 2)
    assert half.look.rv_wall == pytest.approx((3 + one.look.rv_wall) / 2)


@pytest.mark.parametrize("index", [1, 2])
def test_volumes_of_labels_stay_true(index):
    """EDV and ESV in ml, counted in labels of 2 x 2 x 5 mm, whatever the outline."""
    subject = draw_subject(3, index, 1.0)
    labels, heart = imaged(subject).labels, Heart(subject)
    found = (labels == 3).sum(axis=(1, 2, 3)) * 0.02
    true = [heart.ventricles.volumes(heart.at(time)) for time in (0.0, subject.es_phase)]
    assert found == pytest.approx([lv for lv, _ in true], rel=0.04)
    assert true[0] == pytest.approx((subject.lv_edv, subject.rv_edv), rel=1e-3)


def test_tissues_have_another_signal_in_each():
    signal = [Imager(Heart(draw_subject(3, index, 1.0)), SCAN, [0.0]).contrast for index in range(3)]
    assert len({one["myocardium"] for one in signal}) == 3
    assert {one["blood"] for one in signal} == {1.0}
    assert Imager(Heart(draw_subject(3, 0)), SCAN, [0.0]).contrast == CINE


def test_waves():
    theta = np.linspace(-np.pi, np.pi, 9)
    assert wave((), theta) == 0
    assert wave(((2, 0.1, 0.0), (3, 0.05, 0.0)), np.array([0.0]))[0] == pytest.approx(0.15)


def test_a_store_of_variety_is_another_store(tmp_path):
    phantom(1, tmp_path / "one", size="small", frames=2, variety=1.0)
    phantom(1, tmp_path / "usual", size="small", frames=2)
    one, usual = (open_series(tmp_path / name / "phantom_00000" / "sax.b2nd") for name in ("one", "usual"))
    assert not np.array_equal(one.read(), usual.read())
    assert one.info.provenance["options"]["variety"] == 1.0
    assert "variety" not in usual.info.provenance["options"]
    # another cohort's folder, which would become a mixture
    for folder, variety, said in (("usual", 1.0, "none, not 1.0"), ("one", 0.0, "1.0, not none")):
        with pytest.raises(CinemaError, match=f"made with variety = {said};"):
            phantom(2, tmp_path / folder, size="small", frames=2, variety=variety)
    assert json.loads((tmp_path / "usual" / "phantom_00000" / "row.json").read_text())["row"]["id"] == "phantom_00000"
    with pytest.raises(CinemaError, match="--variety is between 0 and 1, not 2"):
        phantom(1, tmp_path / "x", variety=2)
    with pytest.raises(CinemaError, match="--variety does not go with --dataset"):
        phantom(1, tmp_path / "x", dataset="acdc", variety=0.5)
