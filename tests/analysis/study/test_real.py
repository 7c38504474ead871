"""Experts' contours of real studies, as masks, give the volumes that come with them."""

import json
import re

import numpy as np
import pytest
from matplotlib.path import Path as Outline

from cinema_lightning.analysis.measure import measure
from cinema_lightning.analysis.originals import find_originals
from cinema_lightning.analysis.segment import of_labels
from cinema_lightning.analysis.sources import sources_of
from cinema_lightning.analysis.study import read_study
from cinema_lightning.analysis.values import LV, MYOCARDIUM, View
from cinema_lightning.cli import main


def masks(truth: dict, images: dict[str, tuple[int, int]], view: View) -> np.ndarray:
    """(X, Y, Z, T) codes of the pixels of which at least half lies within a contour."""
    labels = np.zeros(view.frames.shape, np.uint8)
    quarters = (np.stack(np.meshgrid(*[np.arange(4)] * 2), axis=-1).reshape(-1, 1, 2) - 1.5) / 4
    for kind, code in (("epicardium", MYOCARDIUM), ("endocardium", LV)):  # the inner one on the outer one
        for contour in truth["contours"]:
            if contour["kind"] == kind:
                points = np.array(contour["points_column_row"])
                (x, y), (right, low) = points.min(axis=0).astype(int), points.max(axis=0).astype(int) + 2
                pixels = (np.mgrid[x:right, y:low].reshape(2, -1).T + quarters).reshape(-1, 2)
                within = Outline(points).contains_points(pixels).reshape(len(quarters), right - x, low - y)
                place, frame = images[contour["sop_instance_uid"]]
                labels[x:right, y:low, place, frame][within.mean(axis=0) >= 0.5] = code
    return labels


@pytest.mark.parametrize("name", ["101", pytest.param("301", marks=pytest.mark.slow)])
def test_volumes_of_expert_contours(real, name):
    path = real / "dicom" / f"ge_{name}.zip"
    truth = json.loads(path.with_name(f"ge_{name}_truth.json").read_text())
    study = read_study(path, str)
    view = study.views["sax"]
    with sources_of(path) as sources:
        originals = find_originals(sources, view)
    images = {str(image.SOPInstanceUID): place for place, image in originals.images.items()}
    phases = sorted((truth["ed_phase"], truth["es_phase"]))
    found = of_labels(masks(truth, images, view), view, phases)
    numbers = measure(study, {"sax": found}).numbers
    assert (found.phases["lv"].ed, found.phases["lv"].es) == (truth["ed_phase"], truth["es_phase"])
    assert numbers["lv_edv"] == pytest.approx(truth["lv_edv_ml"], rel=0.02)
    assert numbers["lv_esv"] == pytest.approx(truth["lv_esv_ml"], rel=0.02)
    assert numbers["lv_ef"] == pytest.approx(truth["lv_ef_percent"], rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["siemens_study", "ge_301"])
def test_real_studies_through_the_command(real, network, tmp_path, capsys, caplog, recwarn, name):
    """Whatever a network finds in them: 17.7 mm between slices are refused, and nobody is named."""
    out, path = tmp_path / "out", real / "dicom" / f"{name}.zip"
    assert main(["analyse", str(path), "--out", str(out), "--dicom"]) == 0
    record = json.loads(next(out.glob("*/result.json")).read_text())
    if name == "siemens_study":
        assert record["quality"] == "refuse"
        assert any("17.7 mm" in reason for reason in record["reasons"])
        assert record["views"].keys() == {"sax", "lax_2c", "lax_3c", "lax_4c"}
        assert all(number is None for number in record["numbers"].values())
        assert (out / record["id"] / "sax.gif").is_file()
    said = capsys.readouterr()
    written = [path.read_bytes() for path in out.rglob("*") if path.is_file()]
    remarks = [str(warning.message).encode() for warning in recwarn]
    for text in (*written, *remarks, *(stream.encode() for stream in (said.out, said.err, caplog.text))):
        assert not re.search(rb"SENTINEL|19010203|20120000|2\.25\.\d{20}", text)
