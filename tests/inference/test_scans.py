"""What a scan may be, and the sentence for what it may not."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch

import cinema_lightning as cinema
from cinema_lightning import listing
from cinema_lightning.cli import main
from cinema_lightning.errors import CinemaError
from cinema_lightning.phantom.command import phantom


@pytest.fixture(scope="module")
def model(segmenter):
    return cinema.load(segmenter)


@pytest.fixture(scope="module")
def two_views(train, tmp_path_factory):
    return cinema.load(train(tmp_path_factory.mktemp("two") / "best.ckpt", "Segmentation", views=["sax", "lax_2c"]))


def test_the_package_costs_nothing_until_it_is_used():
    code = "import sys, cinema_lightning; print({'torch', 'numpy', 'pandas', 'lightning'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_what_the_package_offers_is_what_its_types_say():
    stub = (Path(cinema.__file__).parent / "__init__.pyi").read_text(encoding="utf-8")
    said = {line.rpartition(" as ")[2] for line in stub.splitlines() if " as " in line}
    assert said == set(cinema._PLACES)
    assert all(getattr(cinema, name) is not None for name in said)


def test_views_by_name(two_views, scan):
    voxels = np.asarray(nibabel.load(scan).dataobj)
    found = two_views({"sax": scan, "lax_2c": voxels[:, :, 4:5]}, affine=nibabel.load(scan).affine, frames=[0])
    assert {view: one.labels.shape for view, one in found.views.items()} == {
        "sax": (50, 44, 9, 1),
        "lax_2c": (50, 44, 1, 1),
    }
    assert found.units["lax_2c_lv_area"] == "cm2"
    with pytest.raises(CinemaError, match="has the views sax, lax_2c: say which"):
        _ = found.labels
    assert two_views(scan, frames=[0]).labels.shape == (50, 44, 9, 1), "the file's name says which view it is"
    assert list(two_views(nibabel.load(scan), frames=[0]).views) == ["sax"], "slices and frames make a stack"


@pytest.mark.parametrize(
    ("scan", "options", "sentence"),
    [
        (np.zeros((20, 20, 4)), {}, "has no voxel size: give either spacing"),
        (np.zeros((20, 20, 4)), {"spacing": (1, 1, 8), "affine": np.eye(4)}, "gives both"),
        (np.zeros((20, 20, 4)), {"spacing": (1.5, 1.5)}, "give the voxel size x, y, z in mm"),
        (np.zeros((20, 20, 4)), {"spacing": (0.0015, 0.0015, 0.008)}, "which are no heart's"),
        (np.zeros((20, 20, 4)), {"spacing": (1.5, -1.5, 8)}, "voxel sizes are above 0 mm"),
        (np.zeros((20, 20, 4)), {"affine": np.eye(3)}, "it is 4 x 4"),
        (np.full((20, 20, 4), np.nan), {"spacing": (1.5, 1.5, 8)}, "values that are not numbers"),
        (np.zeros((20, 20)), {"spacing": (1.5, 1.5, 8)}, r"a sax file is \(X, Y, Z\)"),
        (np.zeros((20, 20, 4), bool), {"spacing": (1.5, 1.5, 8)}, "not grey levels"),
        (np.zeros((9, 20, 40)), {"spacing": (8, 1.5, 1.5)}, "its axes are stored in another order"),
        ("gone.nii.gz", {}, "gone.nii.gz does not exist; check the path of the scan"),
        ("gone.zip", {}, "gone.zip does not exist; check the path of the scan"),
        ({"lax_9c": "a.nii.gz"}, {}, "of the view 'lax_9c'; the network knows sax"),
        ({}, {}, "of no view; the network knows sax"),
        ([], {}, "The list of SAX scans is empty"),
        (17, {}, "is a int; give a path"),
        (torch.zeros(20, 20, 4), {"spacing": (1.5, 1.5, 8)}, "is a Tensor; give a path"),
    ],
)
def test_what_cannot_be_used_gets_a_sentence(model, scan, options, sentence):
    with pytest.raises(CinemaError, match=sentence):
        model(scan, **options)


def test_frames_and_options(model, two_views, scan):
    with pytest.raises(CinemaError, match="has no frame 5; its frames are 0 to 4"):
        model(scan, frames=[0, 5])
    with pytest.raises(CinemaError, match="says its voxel size itself"):
        model(nibabel.load(scan), spacing=(1, 1, 8))
    with pytest.raises(CinemaError, match="says its voxel size itself"):
        model(scan, affine=np.eye(4))  # of a file, which it does not move
    for frames in ("ed", 1, [0.5], None):  # not all of them, nor frame 0
        with pytest.raises(CinemaError, match=r"give numbers from 0, such as \[0, 12\], or all"):
            model(scan, frames=frames)
    for size in (0, 1.5):
        with pytest.raises(CinemaError, match=f"batch_size is {size}"):
            model(scan, batch_size=size)
    with pytest.raises(CinemaError, match=r"knows the views sax, lax_2c; say which it is: \{'sax': scan\}"):
        two_views(np.zeros((20, 20, 4)), spacing=(1.5, 1.5, 8))


def test_a_header_that_contradicts_itself(model, scan, tmp_path):
    image = nibabel.Nifti1Image(np.asarray(nibabel.load(scan).dataobj)[..., 0], nibabel.load(scan).affine)
    image.header["pixdim"][1:3] = 1.2
    with pytest.raises(CinemaError, match="say which is right with geometry sform or geometry pixdim"):
        model(image)
    ml = {which: model(image, geometry=which).values["sax_lv_volume"][0] for which in ("sform", "pixdim")}
    affine = model(image, geometry="pixdim").affine
    assert np.linalg.norm(affine[:3, 0]) == pytest.approx(1.2)
    assert ml["sform"] > 0


def test_other_images_in_memory(model):
    colour = sitk.GetImageFromArray(np.zeros((4, 20, 20, 3)), isVector=True)
    with pytest.raises(CinemaError, match="holds 3 values a voxel"):
        model(colour)
    mgh = nibabel.MGHImage(np.random.default_rng(0).random((30, 30, 5)).astype(np.float32), np.diag([1.5, 1.5, 8, 1]))
    assert model(mgh).labels.shape == (30, 30, 5, 1)


@pytest.mark.filterwarnings("ignore")
def test_dicom_in_a_folder_and_a_zip(model, tmp_path):
    phantom(1, tmp_path / "raw", seed=1, size="small", frames=2, dataset="kaggle")
    study = next(path for path in tmp_path.rglob("study"))
    packed = tmp_path / "study.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in study.rglob("*.dcm"):
            archive.write(file, Path("export") / file.relative_to(study))
    one, two = model(study, frames=[0]), model(packed, frames=[0])
    assert one.labels.shape[2] > 3
    assert np.array_equal(one.labels, two.labels)
    assert np.allclose(one.affine, two.affine)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CinemaError, match="holds no files"):
        model(tmp_path / "empty")


def test_zips_that_are_not_opened(model, tmp_path, monkeypatch):
    packed = tmp_path / "study.zip"
    for member, sentence in (("../x", "leads out of the archive"), ("a/x", "no study's archive")):
        monkeypatch.setattr(listing, "SMALL", 2**20)
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(member, bytes(2**22))
        with pytest.raises(CinemaError, match=sentence):
            model(packed)


def test_masks_are_written_in_the_scans_geometry(model, scan, tmp_path):
    found = model(scan)
    found.views["sax"].save(tmp_path / "mask.nii.gz")
    image = nibabel.load(tmp_path / "mask.nii.gz")
    assert image.shape == nibabel.load(scan).shape
    assert np.allclose(image.affine, nibabel.load(scan).affine)


def test_runs_by_name(segmenter, tmp_path):
    run = tmp_path / "runs" / "mine+laptop" / "3" / "checkpoints"
    run.mkdir(parents=True)
    (run / "best.ckpt").write_bytes(segmenter.read_bytes())
    for name in ("mine+laptop", run.parent, run.parent.parent, run / "best.ckpt"):
        assert cinema.load(name, root=tmp_path / "runs").spec.source == (str(run / "best.ckpt"),)
    with pytest.raises(CinemaError, match="There is no network 'yours': it is no file, folder, name of a run"):
        cinema.load("yours", root=tmp_path / "runs")
    with pytest.raises(CinemaError, match="the list of them is empty"):
        cinema.load([])
    (run.parent / "config.yaml").write_text("trainer: {precision: 32-true}\n")
    assert cinema.load(run / "best.ckpt").precision == "32-true"


def test_what_cannot_be_loaded_gets_a_sentence(segmenter):
    for source, options, sentence in (
        (None, {}, "not by a NoneType"),
        (segmenter, {"precision": "fp8"}, "precision is 'fp8'; it is one of 32-true"),
        (segmenter, {"device": "tpu-ish"}, "device is 'tpu-ish', which cannot be used here"),
    ):
        with pytest.raises(CinemaError, match=sentence):
            cinema.load(source, **options)


def test_networks_are_listed(segmenter, tmp_path, capsys):
    for name, content in (("mine/0", segmenter.read_bytes()), ("cells/a/0", segmenter.read_bytes()), ("bad/0", b"?")):
        place = tmp_path / name / "checkpoints"
        place.mkdir(parents=True)
        (place / "best.ckpt").write_bytes(content)
    found = {spec.source[0]: spec for spec in cinema.networks(tmp_path)}
    assert list(found)[-2:] == ["cells/a", "mine"]
    assert found["mine"].classes[3] == "LV blood pool"
    assert cinema.load("cells/a", root=tmp_path).spec.kind == "segmentation"
    assert len(found) == 2 + 1 + 4 + 4 + 1 + 2 + 4 + 1 + 1 + 2 + 2
    published = found["mathpluscode/CineMA/finetuned/classification_sex/mnms_sax/mnms_sax_0.safetensors"]
    assert (published.target, list(published.classes.values())) == ("sex", ["M", "F"])
    assert published.channels == ("ED", "ES")
    assert main(["models", "--runs", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    mine = next(line for line in said.splitlines() if line.startswith("mine"))
    assert "SAX 2 x 2 x 10 mm" in mine
    assert "segmentation: RV blood pool, myocardium, LV blood pool" in mine
    assert "bad/0/checkpoints/best.ckpt" in said
