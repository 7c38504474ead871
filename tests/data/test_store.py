"""The store: one Blosc2 array per series."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from cinema_lightning.data import store
from cinema_lightning.errors import CinemaError

AFFINE = np.array([[0.0, -1, 0, 5], [1, 0, 0, -3], [0, 0, 10, 7], [0, 0, 0, 1]])


def frames(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 12, shape, dtype=np.uint8)


@pytest.fixture
def sax(tmp_path):
    path = store.series_path(tmp_path, "s1", "sax")
    store.write_series(path, frames(6, 20, 24, 5), affine=AFFINE, provenance={"software": "x", "options": {"a": [1]}})
    return path


def test_paths(tmp_path):
    assert store.series_path(tmp_path, "s1", "lax_2c") == tmp_path / "s1" / "lax_2c.b2nd"
    assert store.series_path(tmp_path, "s1", "sax", "label") == tmp_path / "s1" / "sax_label.b2nd"


@pytest.mark.parametrize("shape", [(6, 20, 24, 5), (3, 17, 9, 1), (4, 33, 21), (1, 8, 8)])
def test_what_is_written_is_read(tmp_path, shape):
    path = tmp_path / "series.b2nd"
    array = frames(*shape)
    store.write_series(path, array, affine=AFFINE)
    series = store.open_series(path)
    assert series.n_frames == shape[0]
    assert series.shape == shape[1:]
    assert np.array_equal(series.read(), array)
    assert np.array_equal(series.read([shape[0] - 1, 0]), array[[-1, 0]])
    assert np.array_equal(series.read(slice(0, None, 2)), array[::2])
    series.read()[...] = 0  # writable, and the store keeps its own
    assert np.array_equal(series.read(), array)


def test_metadata(sax, tmp_path):
    info = store.open_series(sax).info
    assert np.array_equal(info.affine, AFFINE)
    assert info.spacing == (1, 1, 10)
    assert info.frames is None
    assert info.provenance == {"software": "x", "options": {"a": [1]}}
    path = tmp_path / "label.b2nd"
    store.write_series(path, frames(2, 4, 4), affine=AFFINE, spacing=(1.5, 1.5, 8), frames_index=[0, 9])
    info = store.open_series(path).info
    assert info.spacing == (1.5, 1.5, 8)
    assert info.frames == [0, 9]


def test_bytes_are_the_same_each_time(sax):
    first = sax.read_bytes()
    store.write_series(sax, frames(6, 20, 24, 5), affine=AFFINE, provenance={"software": "x", "options": {"a": [1]}})
    assert sax.read_bytes() == first


def test_a_frame_costs_one_chunk(sax):
    """Damage to one frame's chunk leaves the others readable, so each is read by itself."""
    import blosc2

    array = blosc2.open(str(sax))  # owns the memory behind its schunk
    chunk = array.schunk.get_chunk(2)
    data = bytearray(sax.read_bytes())
    middle = data.index(chunk) + 40
    data[middle : middle + len(chunk) - 40] = bytes(len(chunk) - 40)
    sax.write_bytes(data)
    series = store.open_series(sax)
    assert np.array_equal(series.read([1])[0], frames(6, 20, 24, 5)[1])
    with pytest.raises(CinemaError, match=r"sax\.b2nd is damaged at frame 2; prepare"):
        series.read([2])


@pytest.mark.parametrize("value", [0, 7])
def test_a_frame_of_one_value_has_no_bytes_of_its_own(tmp_path, value):
    array = frames(4, 20, 24, 5)
    array[1] = array[3] = value
    store.write_series(tmp_path / "x.b2nd", array, affine=AFFINE)
    assert np.array_equal(store.open_series(tmp_path / "x.b2nd").read([1, 2, 3, 0]), array[[1, 2, 3, 0]])


def test_a_long_header_and_chunks_in_any_order_are_read(tmp_path):
    """What another writer of the format might do: frames written backwards, metadata of its own."""
    import blosc2

    array, path = frames(6, 20, 24, 5), tmp_path / "x.b2nd"
    layout = {"chunks": (1, 20, 24, 5), "blocks": (1, 20, 24, 1), "contiguous": True, "urlpath": str(path)}
    made = blosc2.empty(array.shape, np.uint8, meta={"note": "x" * 9000}, **layout)
    for index in reversed(range(6)):
        made[index] = array[index]
    made.schunk.vlmeta["cinema"] = {"affine": AFFINE.tolist(), "spacing": [1, 1, 10], "frames": None, "provenance": {}}
    series = store.open_series(path)
    assert np.array_equal(series.read(), array)
    assert np.array_equal(series.info.affine, AFFINE)


def test_a_frame_costs_one_open_and_three_reads(sax, monkeypatch):
    """Of the operating system, whoever asks: a shared file system pays a round trip for each."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    code = f"""
    from pathlib import Path
    import blosc2
    from cinema_lightning.data.store import open_series
    open_series(Path({str(sax)!r})).read([0])  # what is imported at first use
    print("begin", flush=True)
    for frame in range(4):
        series = open_series(Path({str(sax)!r}))
        series.info, series.read([frame])
    del series
    print("end", flush=True)
    """
    trace = sax.parent / "trace"
    calls = "trace=open,openat,read,pread64,readv,write"
    python = [sys.executable, "-c", textwrap.dedent(code)]
    run = subprocess.run(["strace", "-f", "-o", str(trace), "-e", calls, *python], capture_output=True, text=True)
    if "begin" not in run.stdout:
        pytest.skip("strace may not trace here")
    lines = [line for line in trace.read_text().splitlines() if "ENOENT" not in line]
    begin, end = (next(i for i, line in enumerate(lines) if f'write(1, "{word}' in line) for word in ("begin", "end"))
    lines = lines[begin + 1 : end]
    assert len([line for line in lines if "open" in line]) == 4
    assert len([line for line in lines if "read" in line]) == 12
    assert all("sax.b2nd" in line for line in lines if "open" in line)


def test_files_do_not_stay_open(sax):
    def held():
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    series = store.open_series(sax)
    before = held()
    for _ in range(5):
        store.open_series(sax).read([0])
    assert held() == before
    del series
    with pytest.raises(CinemaError):
        store.open_series(sax.with_name("nothing.b2nd"))
    sax.write_bytes(sax.read_bytes()[:100])
    with pytest.raises(CinemaError, match="cut short"):
        store.open_series(sax)
    assert held() <= before


def test_a_series_that_was_read_can_be_sent_to_another_process(sax):
    series = store.open_series(sax)
    series.read([0])
    again = pickle.loads(pickle.dumps(series))  # noqa: S301
    assert np.array_equal(again.read(), series.read())
    assert again.info.spacing == series.info.spacing


def test_a_file_that_shrinks_after_it_was_opened_is_a_sentence(sax):
    series = store.open_series(sax)
    os.truncate(sax, 300)
    with pytest.raises(CinemaError, match=r"sax\.b2nd is damaged at frame 5"):
        series.read([5])


def test_reading_starts_no_threads(sax):
    code = f"""
    import os, blosc2
    from pathlib import Path
    from cinema_lightning.data.store import open_series
    count = lambda: len(os.listdir("/proc/self/task"))
    before = count()
    for _ in range(3):
        open_series(Path({str(sax)!r})).read()
    assert count() == before, (before, count())
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_labels_of_another_form_are_refused(tmp_path):
    path = tmp_path / "x.b2nd"
    with pytest.raises(CinemaError, match="uint8, not float64"):
        store.write_series(path, np.zeros((2, 4, 4)), affine=AFFINE)
    with pytest.raises(CinemaError, match=r"\(T, X, Y, Z\) or \(T, X, Y\)"):
        store.write_series(path, frames(4, 4), affine=AFFINE)
    with pytest.raises(CinemaError, match="3 frame numbers were given for 2"):
        store.write_series(path, frames(2, 4, 4), affine=AFFINE, frames_index=[1, 2, 3])
    with pytest.raises(CinemaError, match="affine"):
        store.write_series(path, frames(2, 4, 4), affine=np.full((4, 4), np.nan))
    assert not path.exists()


def test_missing_file(tmp_path):
    with pytest.raises(CinemaError, match=r"nothing\.b2nd does not exist; prepare the study again"):
        store.open_series(tmp_path / "nothing.b2nd")


@pytest.mark.parametrize("share", [0, 0.001, 0.02, 0.5, 0.999])
def test_truncated_file(sax, share):
    data = sax.read_bytes()
    sax.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CinemaError, match=r"sax\.b2nd is (cut short|not a series)"):
        store.open_series(sax)


def test_another_kind_of_file(tmp_path):
    import blosc2

    path = tmp_path / "text.b2nd"
    path.write_text("not a series, but long enough to have a header")
    with pytest.raises(CinemaError, match="not a series of this store"):
        store.open_series(path)
    blosc2.asarray(np.zeros((4, 8, 8)), urlpath=str(tmp_path / "float.b2nd"))
    with pytest.raises(CinemaError, match="not a series of this store"):
        store.open_series(tmp_path / "float.b2nd")
    blosc2.asarray(np.zeros((4, 8, 8), np.uint8), urlpath=str(tmp_path / "one.b2nd"), chunks=(4, 8, 8))
    with pytest.raises(CinemaError, match="one chunk per frame"):
        store.open_series(tmp_path / "one.b2nd")
    layout = {"chunks": (1, 8, 8), "blocks": (1, 8, 8)}
    blosc2.asarray(np.zeros((4, 8, 8), np.uint8), urlpath=str(tmp_path / "bare.b2nd"), **layout)
    with pytest.raises(CinemaError, match="without readable metadata"):
        _ = store.open_series(tmp_path / "bare.b2nd").info


def test_a_frame_that_does_not_exist(sax):
    with pytest.raises(CinemaError, match=r"has frames 0 to 5, but frame 6"):
        store.open_series(sax).read([6])


def test_disk_full_leaves_the_previous_file(sax):
    """A process that may write no file above 4 KB fails with EFBIG, as a full disk does with ENOSPC."""
    before = sax.read_bytes()
    code = f"""
    import resource, signal
    import numpy as np
    from pathlib import Path
    from cinema_lightning.data.store import write_series
    from cinema_lightning.errors import CinemaError
    frames = np.random.default_rng(1).integers(0, 255, (6, 20, 24, 5), dtype=np.uint8)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        write_series(Path({str(sax)!r}), frames, affine=np.eye(4))
    except CinemaError as error:
        print(error)
    """
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert "sax.b2nd could not be written (File too large); an earlier file of that name is untouched" in run.stdout
    assert sax.read_bytes() == before
    assert os.listdir(sax.parent) == [sax.name]  # noqa: PTH208


def test_an_interrupted_write_leaves_nothing(tmp_path):
    target = tmp_path / "a" / "table.csv"

    def write():
        with store.replacing(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert list(target.parent.iterdir()) == []


def test_a_file_gets_the_usual_permissions(sax):
    umask = os.umask(0)
    os.umask(umask)
    assert sax.stat().st_mode & 0o777 == 0o666 & ~umask
