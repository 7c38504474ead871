"""DICOM studies of phantoms: a whole export, of the very hearts of the store with the same seed, that can be sorted."""

import pandas as pd
import pytest

from cinema_lightning.analysis.study import read_study
from cinema_lightning.cli import main
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.subject import draw_subject


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    out = tmp_path_factory.mktemp("studies") / "raw"
    options = ["--size", "small", "--subjects", "3", "--seed", "4", "--frames", "3", "--out", str(out)]
    assert main(["phantom", "--dataset", "dicom", *options]) == 0
    return out


@pytest.mark.parametrize(("index", "vendor", "n_series"), [(0, "Siemens", 26), (1, "GE", 12), (2, "Philips", 12)])
def test_studies_are_the_hearts_of_the_store_as_scanners_export_them(studies, index, vendor, n_series):
    truth = pd.read_csv(studies / "phantom_truth.csv").set_index("id").loc[f"phantom_{index:05d}"]
    subject = draw_subject(4, index)
    assert (truth["vendor"], truth["split"], truth["pathology"]) == (vendor, subject.split, subject.pathology)
    assert truth["lv_edv_true"] == pytest.approx(Heart(subject).ventricles.volumes(Heart(subject).at(0.0))[0], abs=0.01)
    found = read_study(studies / f"phantom_{index:05d}", str)
    assert (found.scanner.vendor, found.phantom) == (vendor, True)
    assert set(found.views) == {"sax", "lax_2c", "lax_3c", "lax_4c"}
    sax = found.views["sax"]
    assert sax.frames.shape[3] == 3
    assert sax.frames.shape[2] * sax.affine[:3, 2].dot(sax.affine[:3, 2]) ** 0.5 > 60
    assert len(found.series) >= n_series


def test_a_second_run_keeps_what_is_there(studies):
    before = {path: path.stat().st_mtime_ns for path in studies.rglob("IM*")}
    assert (
        main(
            [
                "phantom",
                "--dataset",
                "dicom",
                "--size",
                "small",
                "--subjects",
                "3",
                "--seed",
                "4",
                "--frames",
                "3",
                "--out",
                str(studies),
            ]
        )
        == 0
    )
    assert {path: path.stat().st_mtime_ns for path in studies.rglob("IM*")} == before


def test_another_name_is_refused(tmp_path, capsys):
    assert main(["phantom", "--dataset", "dicoms", "--out", str(tmp_path / "x")]) == 2
    assert "dicoms" in capsys.readouterr().err
