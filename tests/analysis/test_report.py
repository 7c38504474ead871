"""The page of a study: whole in one file, numbers only where the gate let them through."""

import re

import numpy as np
import pytest

from cinema_lightning.analysis.report import page, series_lines
from cinema_lightning.analysis.study import judged
from cinema_lightning.analysis.values import AsScanned, Interval, Measured, Person, Result, Scanner, Series, Study, View
from cinema_lightning.phantom.acquisition import Acquisition
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.imaging import Imager
from cinema_lightning.phantom.subject import draw_subject


@pytest.fixture(scope="module")
def heart():
    series = Imager(Heart(draw_subject(5, 4)), Acquisition(n_frames=16, sax_size=(90, 90), sax_spacing=(2.0, 2.0)))
    made = series.image("sax")
    return np.moveaxis(made.images, 0, -1), np.moveaxis(made.labels, 0, -1), made.affine


def result(heart, segmented, step=10.0) -> Result:
    images, labels, affine = heart
    scanned = AsScanned(tuple(step * np.arange(labels.shape[2])), (16,) * labels.shape[2], 16)
    view = View("sax", images, affine, scanned, rr=900.0)
    series = (Series(1, "sax", "parallel slices", "<script>"),)
    study = Study("0123abcd", {"sax": view}, series, Person("F", 60, False, 1.7, 70), Scanner("GE", 1.5))
    made_with = {"weights_1": "mnms2_sax_0.safetensors sha256:00"}
    return judged(Result(study, {"sax": segmented(labels, affine)}, Measured({}), made_with=made_with))


def test_a_good_study(heart, segmented):
    whole = result(heart, segmented)
    text = page(Result(**{**vars(whole), "intervals": (Interval("lv_ef", 50, 60, 0.9, True, "Calibrated on x."),)}))
    assert "All checks passed" in text
    assert "For research, not for diagnosis" in text
    edv = whole.measured.numbers["lv_edv"]
    assert f"{edv:.0f} ml<" in text
    assert "50.0 to 60.0" in text
    assert "Petersen 2017" in text
    assert text.count("data:image/png") == 3  # curve, bullseyes at ED and ES
    assert "data:image/webp" in text
    # nothing from outside, nothing that runs
    assert not re.search(r"<script|https?://|<link", text)


def test_a_refused_study_shows_reasons_and_pictures_but_no_numbers(heart, segmented):
    text = page(result(heart, segmented, step=17.7))
    assert "Refused: no numbers are given" in text
    assert "17.7 mm" in text
    assert "data:image/webp" in text
    assert "<h2>Numbers" not in text
    assert "data:image/png" not in text
    assert not re.search(r"\d ml<", text)
    assert not re.search(r"\d (ml|g)\b|LVEF is", text)  # nor in sentences of checks that had nothing to say


def test_neighbouring_series_are_one_line_where_the_same_is_said():
    series = [Series(n, "sax", "1 slice lies like SAX", slices=1, phases=25) for n in (1, 2, 3)]
    lines = series_lines([*series, Series(4, "none", "it is a map"), Series(5, "sax", "1 slice lies like SAX")])
    assert [(line["numbers"], line["taken_for"]) for line in lines] == [("1 to 3", "sax"), ("4", "none"), ("5", "sax")]


def test_an_interval_that_is_not_valid_is_not_shown(heart, segmented):
    whole = result(heart, segmented)
    outside = Interval("lv_edv", 1, 2, 0.9, False, "Not valid here: the scanner is of GE.")
    text = page(Result(**{**vars(whole), "intervals": (outside,)}))
    assert "not valid" in text
    assert "1 to 2" not in text
    assert "the scanner is of GE" in text
