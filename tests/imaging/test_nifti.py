import nibabel as nib
import numpy as np
import pytest

from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.nifti import read_frame, read_nifti, read_series


def test_integers_stay_integers_and_time_comes_first(tmp_path):
    array = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
    nib.save(nib.Nifti1Image(array, np.diag([-1, -1, 10, 1])), tmp_path / "a b é.nii.gz")
    frames, affine = read_series(tmp_path / "a b é.nii.gz")
    assert frames.dtype == np.int16
    np.testing.assert_array_equal(frames, np.moveaxis(array, -1, 0))
    np.testing.assert_array_equal(affine, np.diag([-1, -1, 10, 1]))
    frame, _ = read_frame(nib_save(tmp_path, array[..., :1]))
    assert frame.shape == (1, 2, 3, 4)


def nib_save(folder, array):
    nib.save(nib.Nifti1Image(array, np.eye(4)), folder / "x.nii.gz")
    return folder / "x.nii.gz"


def test_bad_files(tmp_path):
    with pytest.raises(CinemaError, match="is missing"):
        read_nifti(tmp_path / "no.nii.gz", dims=3)
    path = nib_save(tmp_path, np.random.default_rng(0).integers(0, 999, (20, 20, 5)).astype(np.int16))
    data = path.read_bytes()
    for length in (0, 100, len(data) // 2, len(data) - 40):
        path.write_bytes(data[:length])
        with pytest.raises(CinemaError, match="cannot be read"):
            read_nifti(path, dims=3)
    path.write_bytes(b"not nifti at all" * 50)
    with pytest.raises(CinemaError, match="cannot be read"):
        read_nifti(path, dims=3)
    with pytest.raises(CinemaError, match="3 axes was expected"):
        read_nifti(nib_save(tmp_path, np.zeros((4, 4, 2, 3), np.int16)), dims=3)
    with pytest.raises(CinemaError, match="not numbers"):
        read_nifti(nib_save(tmp_path, np.full((4, 4, 2), np.nan)), dims=3)
