import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from cinema_lightning.errors import CinemaError
from cinema_lightning.imaging.pickles import load_arrays

CONTENT = {
    "image_voxels": np.arange(24, dtype=np.int16).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "ImagePositionPatient": np.array([1.0, 2.0, 3.0]),
    "SliceSpacing": np.float64(8.0),
    "text": "plain",
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_all_protocols(tmp_path, protocol):
    path = tmp_path / "a.pickle"
    path.write_bytes(pickle.dumps(CONTENT, protocol=protocol))
    loaded = load_arrays(path)
    assert loaded.keys() == CONTENT.keys()
    for key, value in CONTENT.items():
        np.testing.assert_array_equal(loaded[key], value)


def test_arrays_of_python_2(tmp_path):
    # Python 2 and old numpy: module numpy.core.multiarray and bytes as a raw string.
    text = (
        b"(dp0\nS'a'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntS'b'\ntp4\nRp5\n"
        b"(I1\n(I2\ntcnumpy\ndtype\np6\n(S'u1'\nI0\nI1\ntRp7\n(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\nS'\\x07\\xff'\ntbs."
    )
    path = tmp_path / "old.pickle"
    path.write_bytes(text)
    assert load_arrays(path)["a"].tolist() == [7, 255]


class _Evil:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_is_refused_before_it_runs(tmp_path, protocol):
    trace = tmp_path / "it_ran"
    path = tmp_path / "evil.pickle"
    path.write_bytes(pickle.dumps({"image_voxels": _Evil(os.system, f"touch {trace}")}, protocol=protocol))
    with pytest.raises(CinemaError, match=r"refused: it asks for (posix|nt)\.system"):
        load_arrays(path)
    assert not trace.exists()


@pytest.mark.parametrize("function", [eval, exec, getattr, np.load, np.fromfile, OrderedDict])
def test_other_names_are_refused(tmp_path, function):
    path = tmp_path / "evil.pickle"
    path.write_bytes(pickle.dumps({"a": _Evil(function, "1")}))
    with pytest.raises(CinemaError, match="refused"):
        load_arrays(path)


def test_attributes_of_allowed_names_are_no_way_round(tmp_path):
    # Protocol 4 lets a pickle ask for dotted names.
    path = tmp_path / "dotted.pickle"
    path.write_bytes(b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__class__\x93.")
    with pytest.raises(CinemaError, match="refused"):
        load_arrays(path)


def test_damaged_files(tmp_path):
    whole = pickle.dumps(CONTENT)
    path = tmp_path / "cut.pickle"
    for length in (0, 1, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CinemaError, match=r"cut\.pickle"):
            load_arrays(path)
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(CinemaError, match="not a dictionary"):
        load_arrays(path)
    with pytest.raises(CinemaError, match="could not be opened"):
        load_arrays(tmp_path / "missing.pickle")
