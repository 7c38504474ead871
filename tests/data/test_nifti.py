"""Folders of plain NIfTI files."""

from __future__ import annotations

import warnings

import nibabel as nib
import numpy as np
import pytest

from cinema_lightning.data import nifti
from cinema_lightning.data.dataset import FrameDataset
from cinema_lightning.data.labels import LabelledDataset
from cinema_lightning.data.sampler import Draw
from cinema_lightning.data.table import read_cohort
from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.geometry import resample, resampled_affine
from cinema_lightning.imaging.intensity import to_uint8


def save(path, array, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([1.5, 1.5, 8, 1]) if affine is None else affine), path)
    return path


def grey(*shape, seed=0):
    return np.random.default_rng(seed).normal(300, 80, shape).astype(np.int16)


def test_real_images_work_as_they_are(real):
    cohort = read_cohort(real)
    assert cohort.ids.tolist() == ["acdc", "mnms2"]
    assert cohort.table["views"].tolist() == ["sax", "sax lax_4c"]
    assert cohort.numbers("es_frame").tolist() == [1, 1]
    lax = cohort.reader.open("mnms2", "lax_4c")
    assert (lax.shape, lax.n_frames) == ((256, 256), 2)
    ed = np.asarray(nib.load(real / "mnms2" / "lax_4c_ed.nii.gz").dataobj)
    assert np.array_equal(lax.read([0])[0], ed[:, :, 0])
    sax = cohort.reader.open("acdc", "sax")
    assert np.array_equal(sax.read([1])[0], np.asarray(nib.load(real / "acdc" / "sax_es.nii.gz").dataobj))
    assert sax.info.spacing == (1, 1, 10)


def test_a_root_that_is_one_study(real):
    assert read_cohort(real / "acdc").ids.tolist() == ["acdc"]


def test_names_order_and_labels(tmp_path):
    for name in ("sax_es", "sax_ed", "sax_b", "sax_ed_gt", "sax_label", "lax_2c", "T1_map"):
        save(tmp_path / "p1" / f"{name}.nii.gz", grey(8, 8, 3) if name.startswith("sax") else grey(8, 8, 1))
    with pytest.warns(UserWarning, match=r"1 NIfTI file\(s\) are ignored .*T1_map") as caught:
        files = nifti.scan(tmp_path)
    assert len(caught) == 1
    assert [path.name for path in files["p1"]["sax"]] == ["sax_ed.nii.gz", "sax_es.nii.gz", "sax_b.nii.gz"]
    assert list(files["p1"]) == ["lax_2c", "sax"]


def test_time_axis_and_single_frames_together(tmp_path):
    series = [save(tmp_path / "p" / "sax.nii.gz", grey(8, 9, 3, 5)), save(tmp_path / "p" / "sax_x.nii", grey(8, 9, 3))]
    opened = nifti.NiftiSeries(series, "sax")
    assert opened.n_frames == 6
    read = opened.read()
    assert np.array_equal(read[3], to_uint8(grey(8, 9, 3, 5)[..., 3]))
    assert np.array_equal(read[5], to_uint8(grey(8, 9, 3)))
    assert opened.info.spacing == (1.5, 1.5, 8)


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 1), (8, 9, 1, 4)])
def test_long_axis_shapes(tmp_path, shape):
    opened = nifti.NiftiSeries([save(tmp_path / "lax_3c.nii.gz", grey(*shape))], "lax_3c")
    assert opened.shape == (8, 9)
    assert opened.read().shape == (shape[3] if len(shape) == 4 else 1, 8, 9)


def test_each_frame_is_scaled_by_itself(tmp_path):
    array = np.stack([grey(30, 30, 4), grey(30, 30, 4) * 5 + 7], axis=-1).astype(np.float32)
    read = nifti.NiftiSeries([save(tmp_path / "sax.nii.gz", array)], "sax").read()
    assert read.dtype == np.uint8
    assert np.abs(read[0].astype(int) - read[1]).max() <= 1
    assert (read.min(), read.max()) == (0, 255)


def test_uint8_is_left_alone_and_a_constant_frame_becomes_zero(tmp_path):
    array = np.random.default_rng(0).integers(3, 90, (6, 6, 2), dtype=np.uint8)
    assert np.array_equal(nifti.NiftiSeries([save(tmp_path / "sax.nii", array)], "sax").read()[0], array)
    constant = nifti.NiftiSeries([save(tmp_path / "sax.nii", np.full((6, 6, 2), 7, np.int16))], "sax")
    assert not constant.read().any()


@pytest.mark.parametrize(
    ("view", "shape"),
    [("sax", (8, 8)), ("sax", (8, 8, 3, 2, 2)), ("lax_2c", (8, 8, 3)), ("lax_2c", (8, 8, 3, 4))],
)
def test_wrong_number_of_dimensions(tmp_path, view, shape):
    path = save(tmp_path / f"{view}.nii.gz", grey(*shape))
    with pytest.raises(CinemaError, match=rf"{view}\.nii\.gz has shape .*, but a {view} file is \(X, Y"):
        nifti.NiftiSeries([path], view)


def test_nan_truncated_garbage_and_unequal_files(tmp_path):
    array = grey(20, 20, 3).astype(np.float32)
    array[2, 3, 1] = np.nan
    with pytest.raises(CinemaError, match=r"nan\.nii\.gz holds values that are not numbers"):
        nifti.NiftiSeries([save(tmp_path / "nan.nii.gz", array)], "sax").read()
    whole = save(tmp_path / "sax_ed.nii.gz", grey(20, 20, 3))
    cut = tmp_path / "sax_es.nii.gz"
    cut.write_bytes(whole.read_bytes()[:1500])
    with pytest.raises(CinemaError, match=r"sax_es\.nii\.gz cannot be read .* half downloaded"):
        nifti.NiftiSeries([whole, cut], "sax").read([1])
    cut.write_bytes(b"nothing")
    with pytest.raises(CinemaError, match=r"sax_es\.nii\.gz cannot be read"):
        nifti.NiftiSeries([cut], "sax")
    with pytest.raises(CinemaError, match=r"gone\.nii\.gz does not exist"):
        nifti.NiftiSeries([tmp_path / "gone.nii.gz"], "sax")
    other = save(tmp_path / "sax_x.nii.gz", grey(20, 21, 3))
    with pytest.raises(CinemaError, match=r"sax_x\.nii\.gz has frames of \(20, 21, 3\) voxels but .*sax_ed"):
        nifti.NiftiSeries([whole, other], "sax")
    colour = np.zeros((4, 4, 2), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(CinemaError, match="not grey levels or labels"):
        nifti.NiftiSeries([save(tmp_path / "rgb.nii.gz", colour)], "sax")
    with pytest.raises(CinemaError, match="frame 3 was asked for"):
        nifti.NiftiSeries([whole], "sax").read([3])


def test_a_compressed_file_is_unpacked_once(tmp_path, monkeypatch):
    opened = nifti.NiftiSeries([save(tmp_path / "sax.nii.gz", grey(8, 8, 3, 4))], "sax")
    opened.read([0])
    (tmp_path / "sax.nii.gz").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert opened.read([3]).shape == (1, 8, 8, 3)


def test_frames_are_resampled_as_preparation_does_it(tmp_path):
    array = grey(30, 20, 5, 2)
    path = save(tmp_path / "sax.nii.gz", array, np.diag([1.5, 1.5, 8, 1]))
    opened = nifti.NiftiSeries([path], "sax", (1.0, 1.0, 10.0))
    assert (opened.shape, opened.info.spacing) == ((45, 30, 4), (1.0, 1.0, 10.0))
    expected = to_uint8(resample(array[..., 1], (1.5, 1.5, 8.0), (1.0, 1.0, 10.0)))
    assert np.array_equal(opened.read([1])[0], expected)
    assert np.allclose(opened.info.affine, resampled_affine(np.diag([1.5, 1.5, 8, 1]), (1, 1, 10)))
    flat = nifti.NiftiSeries([save(tmp_path / "lax_2c.nii.gz", grey(20, 30, 1))], "lax_2c", (1.0, 1.0))
    assert (flat.shape, flat.info.spacing, flat.read().shape) == ((30, 45), (1.0, 1.0, 8.0), (1, 30, 45))


def test_eight_bits_that_need_resampling_are_scaled_too(tmp_path):
    path = save(tmp_path / "sax.nii", np.random.default_rng(0).integers(3, 90, (6, 6, 2), dtype=np.uint8))
    assert nifti.NiftiSeries([path], "sax", (1.5, 1.5, 8.004)).read().max() < 90  # prepared already
    assert nifti.NiftiSeries([path], "sax", (1.0, 1.0, 10.0)).read().max() == 255


def test_a_phase_belongs_to_a_view(tmp_path):
    frames = np.stack([np.full((8, 8, 2), 8 * frame, np.uint8) for frame in range(30)], axis=-1)
    save(tmp_path / "p" / "sax.nii.gz", frames)
    for name, value in (("ed", 1), ("es", 2)):
        save(tmp_path / "p" / f"lax_4c_{name}.nii.gz", np.full((8, 8, 1), value, np.uint8))
    with pytest.warns(UserWarning, match="of 1 studies .the first is 'p'. the files name ED and ES in some views only"):
        cohort = read_cohort(tmp_path)
    assert np.isnan(cohort.numbers("es_frame")).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_cohort(tmp_path, ["lax_4c"]).numbers("es_frame").tolist() == [1]
        assert np.isnan(read_cohort(tmp_path, ["sax"]).numbers("es_frame")).all()
    # where ED and ES of the longer series are known after all, the named frames follow by name and not by number
    data = LabelledDataset(cohort.ids, cohort.reader, 0, "p", phases=np.array([[0, 10]]))
    for frame, value in ((0, 1), (10, 2)):
        sample = data.sample(Draw(0, 0, ("sax", "lax_4c"), 1.0, frame))
        assert (sample["sax"].max(), sample["lax_4c"].max()) == (8 * frame, value)


def test_a_view_with_more_frames_than_its_phases(tmp_path):
    for name in ("sax_ed", "sax_es", "sax_x", "lax_4c_ed", "lax_4c_es", "lax_2c"):
        shape = (8, 8, 2) if name.startswith("sax") else (8, 8, 1)
        value = {"ed": 1, "es": 2}.get(name.rsplit("_", 1)[-1], 3)
        save(tmp_path / "p" / f"{name}.nii.gz", np.full(shape, value, np.uint8))
    cohort = read_cohort(tmp_path)
    assert cohort.table[["ed_frame", "es_frame"]].to_numpy().tolist() == [[0, 1]]
    views = ("sax", "lax_4c", "lax_2c")
    for cls in (FrameDataset, LabelledDataset):
        data = cls(cohort.ids, cohort.reader, 0, "p")
        sample = data.sample(Draw(0, 0, views, 1.0, 1))  # round(1 / 2) of two frames would be ED
        assert [int(sample[view].max()) for view in views] == [2, 2, 3], cls
    both = save(tmp_path / "q" / "sax_ed.nii.gz", grey(8, 8, 2, 3))
    with pytest.raises(CinemaError, match=r"sax_ed\.nii\.gz is named after one phase but holds 3 frames"):
        nifti.NiftiSeries([both], "sax")


def test_files_of_one_series_that_lie_elsewhere(tmp_path):
    first, affine = save(tmp_path / "sax_ed.nii.gz", grey(8, 9, 3)), np.diag([1.5, 1.5, 8, 1])
    array = grey(8, 9, 3, seed=1)
    mirrored = affine.copy()
    mirrored[0] = (-1.5, 0, 0, 7 * 1.5)
    flipped = nifti.NiftiSeries([first, save(tmp_path / "sax_es.nii.gz", array[::-1], mirrored)], "sax")
    assert np.array_equal(flipped.read([1])[0], to_uint8(array))
    finer = np.diag([1.2, 1.2, 8, 1])
    with pytest.raises(CinemaError, match=r"sax_es\.nii\.gz"):
        nifti.NiftiSeries([first, save(tmp_path / "sax_es.nii.gz", array, finer)], "sax").read()


def test_a_header_that_contradicts_itself_is_refused_until_the_user_decides(tmp_path):
    image = nib.Nifti1Image(grey(8, 8, 3), np.diag([1.5, 1.5, 8, 1]))
    image.header["pixdim"][1:4] = (1.4, 1.4, 8)
    nib.save(image, tmp_path / "sax.nii.gz")
    with pytest.raises(CinemaError, match=r"1\.5 x 1\.5 x 8 mm, its pixdim 1\.4 .* --data\.geometry sform"):
        nifti.NiftiSeries([tmp_path / "sax.nii.gz"], "sax")
    for choice, size in (("sform", 1.5), ("pixdim", 1.4)):
        opened = nifti.NiftiSeries([tmp_path / "sax.nii.gz"], "sax", None, choice)
        assert opened.info.spacing == pytest.approx((size, size, 8))


def test_a_stack_whose_slices_are_not_the_third_axis(tmp_path):
    path = save(tmp_path / "sax.nii.gz", grey(8, 12, 12), np.diag([8, 1.5, 1.5, 1]))
    with pytest.raises(
        CinemaError, match=r"sax\.nii\.gz has pixels of 8 x 1\.5 mm and slices of 1\.5 mm by its header"
    ):
        nifti.NiftiSeries([path], "sax")


def test_packed_and_unpacked_twins_and_what_a_mac_leaves(tmp_path):
    for name in ("sax.nii", "sax.nii.gz"):
        save(tmp_path / "p" / name, grey(8, 8, 3))
    (tmp_path / "p" / "._sax.nii.gz").write_bytes(b"Mac OS X")
    with pytest.warns(UserWarning, match=r"1 NIfTI file\(s\) lie there with and without \.gz"):
        files = nifti.scan(tmp_path)
    assert [path.name for path in files["p"]["sax"]] == ["sax.nii"]
