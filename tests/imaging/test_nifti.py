import gzip
import struct

import nibabel as nib
import numpy as np
import pytest

from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.nifti import open_nifti, read_nifti, read_series, read_volume

PIXDIM, UNITS, QFORM_CODE, SFORM = 76, 123, 252, 280


def test_integers_stay_integers_and_time_comes_first(tmp_path):
    array = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
    nib.save(nib.Nifti1Image(array, np.diag([-1, -1, 10, 1])), tmp_path / "a b é.nii.gz")
    frames, affine = read_series(tmp_path / "a b é.nii.gz")
    assert frames.dtype == np.int16
    np.testing.assert_array_equal(frames, np.moveaxis(array, -1, 0))
    np.testing.assert_array_equal(affine, np.diag([-1, -1, 10, 1]))
    frame, _ = read_nifti(nib_save(tmp_path, array[..., :1]), dims=3)
    assert frame.shape == (2, 3, 4)


def nib_save(folder, array, affine=None):
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), folder / "x.nii.gz")
    return folder / "x.nii.gz"


def test_bad_files(tmp_path):
    with pytest.raises(CinemaError, match=r"is missing: put it there, or mend"):
        read_nifti(tmp_path / "no.nii.gz", dims=3)
    path = nib_save(tmp_path, np.random.default_rng(0).integers(0, 999, (20, 20, 5)).astype(np.int16))
    data = path.read_bytes()
    for length in (0, 100, len(data) // 2, len(data) - 40):
        path.write_bytes(data[:length])
        with pytest.raises(CinemaError, match=r"cannot be read.*: get it again\.$"):
            read_nifti(path, dims=3)
    path.write_bytes(b"not nifti at all" * 50)
    with pytest.raises(CinemaError, match=r"cannot be read.*: get it again\.$"):
        read_nifti(path, dims=3)
    with pytest.raises(CinemaError, match=r"3 axes was expected: save it as one"):
        read_nifti(nib_save(tmp_path, np.zeros((4, 4, 2, 3), np.int16)), dims=3)
    beyond = np.zeros((4, 4, 2))
    beyond[[1, 3], 2, 1] = np.nan, np.inf
    with pytest.raises(
        CinemaError, match=r"not numbers \(2 voxels, the first \(1, 2, 1\)\): write numbers in their pla"
    ):
        read_nifti(nib_save(tmp_path, beyond), dims=3)
    with pytest.raises(CinemaError, match="holds complex numbers"):
        read_nifti(nib_save(tmp_path, np.ones((4, 4, 2), np.complex64)), dims=3)


def header_of(array, affine, changes):
    """A file's bytes with bytes of its header changed: offset -> (format, values)."""
    data = bytearray(nib.Nifti1Image(array, affine).to_bytes())
    for offset, (form, *values) in changes.items():
        struct.pack_into(f"<{form}", data, offset, *values)
    return bytes(data)


VOXELS = np.arange(4 * 5 * 3, dtype=np.int16).reshape(4, 5, 3)
HEART = np.diag([1.5, 1.5, 10.0, 1.0])


@pytest.fixture
def written(tmp_path):
    def write(changes, affine=HEART, array=VOXELS):
        path = tmp_path / "x.nii.gz"
        path.write_bytes(gzip.compress(header_of(array, affine, changes)))
        return path

    return write


def test_sform_against_pixdim(written):
    """An identity sform beside pixdim 1.5 x 1.5 x 10 mm makes volumes 22 times too small."""
    path = written({SFORM: ("12f", 1, 0, 0, 7, 0, 1, 0, 8, 0, 0, 1, 9)})
    message = "sform says voxels of 1 x 1 x 1 mm, its pixdim 1.5 x 1.5 x 10 mm; .*--geometry sform or --geometry pix"
    with pytest.raises(CinemaError, match=message):
        open_nifti(path)
    with pytest.raises(CinemaError, match=r"--data\.geometry sform"):
        open_nifti(path, option="--data.geometry")
    sform, pixdim = (read_volume(path, dims=3, geometry=choice) for choice in ("sform", "pixdim"))
    np.testing.assert_array_equal(np.diag(sform.affine), [1, 1, 1, 1])
    np.testing.assert_array_equal(pixdim.affine, [[1.5, 0, 0, 7], [0, 1.5, 0, 8], [0, 0, 10, 9], [0, 0, 0, 1]])
    assert "the sform was taken" in sform.notes[0]
    assert "pixdim was taken" in pixdim.notes[0]
    assert abs(np.linalg.det(pixdim.affine)) == pytest.approx(22.5)


def test_pixdim_within_one_percent_is_the_same(written):
    path = written({PIXDIM + 4: ("3f", 1.51, 1.5, 10.05)})
    file = open_nifti(path)
    np.testing.assert_array_equal(file.affine, HEART)
    assert file.notes == ()
    with pytest.raises(CinemaError, match=r"pixdim 1\.52 x 1\.5 x 10 mm"):
        open_nifti(written({PIXDIM + 4: ("3f", 1.52, 1.5, 10)}))
    with pytest.raises(CinemaError, match="pixdim nan"):
        open_nifti(written({PIXDIM + 4: ("f", float("nan"))}))
    with pytest.raises(CinemaError, match="pixdim cannot be taken"):
        open_nifti(written({PIXDIM + 4: ("f", float("nan"))}), geometry="pixdim")


@pytest.mark.parametrize(("code", "factor", "name"), [(1, 0.001, "metres"), (3, 1000, "micrometres")])
def test_units_are_converted_and_said(written, code, factor, name):
    affine = HEART.copy()
    affine[:3, 3] = 20, 30, 40
    scaled = np.diag([factor, factor, factor, 1]) @ affine
    file = open_nifti(written({UNITS: ("B", code + 8)}, scaled))
    np.testing.assert_allclose(file.affine, affine, rtol=1e-6)
    assert f"counts in {name}" in file.notes[0]


def test_voxels_that_are_no_hearts(written):
    for spacing in ((1500, 1500, 10000), (0.0015, 0.0015, 0.01), (1.5, 1.5, 31), (0.19, 1.5, 10)):
        with pytest.raises(CinemaError, match="which are no heart's"):
            open_nifti(written({}, np.diag([*spacing, 1.0])))
    with pytest.raises(CinemaError, match="which are no heart's"):
        open_nifti(written({UNITS: ("B", 3)}))  # mm that are called micrometres
    sheared = HEART.copy()
    sheared[0, 2] = 3.0
    with pytest.raises(CinemaError, match="not at right angles"):
        open_nifti(written({}, sheared))
    with pytest.raises(CinemaError, match="no usable geometry"):
        open_nifti(written({SFORM: ("f", float("nan"))}))


def test_sform_qform_and_codes_of_nothing(written):
    """The sform counts, else the qform, else pixdim alone, which does not say where the voxels lie."""
    turned = {SFORM: ("12f", -1.5, 0, 0, 0, 0, 1.5, 0, 0, 0, 0, 10, 0), QFORM_CODE: ("2h", 1, 1)}
    file = open_nifti(written(turned))
    np.testing.assert_array_equal(np.diag(file.affine), [-1.5, 1.5, 10, 1])
    assert file.place == "disputed"
    assert "sform and qform place it up to 9.0 mm apart" in file.notes[0]
    file = open_nifti(written({**turned, QFORM_CODE: ("2h", 1, 0)}))
    np.testing.assert_allclose(file.affine, HEART, atol=1e-6)
    assert (file.place, file.notes) == ("known", ())
    file = open_nifti(written({**turned, QFORM_CODE: ("2h", 0, 0)}))
    np.testing.assert_allclose(np.linalg.norm(file.affine[:3, :3], axis=0), [1.5, 1.5, 10], rtol=1e-6)
    assert (file.place, file.notes) == ("unknown", ())
    assert open_nifti(written({QFORM_CODE: ("2h", 1, 1)})).place == "known"


def test_the_ending_does_not_matter(tmp_path):
    data = header_of(VOXELS, HEART, {})
    for name, content, asked in (
        ("plain.nii.gz", data, "plain.nii.gz"),
        ("packed.nii", gzip.compress(data), "packed.nii"),
        ("one.nii", data, "one.nii.gz"),
        ("two.nii.gz", gzip.compress(data), "two.nii"),
        ("three.nii", gzip.compress(data), "three.nii.gz"),
    ):
        (tmp_path / name).write_bytes(content)
        voxels, affine = read_nifti(tmp_path / asked, dims=3)
        np.testing.assert_array_equal(voxels, VOXELS)
        np.testing.assert_array_equal(affine, HEART)
    second = nib.Nifti2Image(VOXELS, HEART).to_bytes()
    (tmp_path / "second.nii.gz").write_bytes(second)
    np.testing.assert_array_equal(read_nifti(tmp_path / "second.nii.gz", dims=3)[0], VOXELS)
    (tmp_path / "text.nii").write_bytes(gzip.compress(b"version https://git-lfs.github.com/spec/v1" * 20))
    with pytest.raises(CinemaError, match=r"text\.nii cannot be read \(it is not NIfTI\)"):
        open_nifti(tmp_path / "text.nii")


def test_big_endian_scaled_and_extra_axes(tmp_path):
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    big = nib.Nifti1Image(VOXELS.astype(">i2"), HEART, header)
    (tmp_path / "big.nii").write_bytes(big.to_bytes())
    voxels, _ = read_nifti(tmp_path / "big.nii", dims=3)
    assert voxels.dtype == np.int16
    np.testing.assert_array_equal(voxels, VOXELS)
    (tmp_path / "scaled.nii").write_bytes(header_of(VOXELS, HEART, {112: ("2f", 0.5, 3)}))
    np.testing.assert_allclose(read_nifti(tmp_path / "scaled.nii", dims=3)[0], VOXELS * 0.5 + 3)
    path = nib_save(tmp_path, VOXELS[:, :, :, None, None], HEART)
    np.testing.assert_array_equal(read_nifti(path, dims=3)[0], VOXELS)
    series = np.stack([VOXELS, VOXELS + 100], -1)
    frames, _ = read_series(nib_save(tmp_path, series[:, :, :, None], HEART))
    np.testing.assert_array_equal(frames[1], VOXELS + 100)


def test_a_header_that_promises_too_much_costs_no_memory(written, tmp_path):
    huge = {40: ("8h", 4, 30000, 30000, 30000, 30000, 1, 1, 1)}
    with pytest.raises(CinemaError, match="more than the file can hold"):
        open_nifti(written(huge))
    (tmp_path / "y.nii").write_bytes(header_of(VOXELS, HEART, huge))
    with pytest.raises(CinemaError, match=r"cannot be read.*: get it again\.$"):
        open_nifti(tmp_path / "y.nii")
