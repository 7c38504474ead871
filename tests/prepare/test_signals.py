"""A run of two workers whose whole process group is told to stop, as SLURM and Ctrl-C do."""

import os
import signal
import subprocess
import sys
import time

import pytest

SCRIPT = """
import sys
import time
from pathlib import Path

sys.path.insert(0, {folder!r})
import slow_dataset  # noqa: F401
from cinema_lightning.prepare.command import prepare

if __name__ == "__main__":
    sys.exit(prepare("slow", Path({raw!r}), Path({out!r}), workers=2))
"""

DATASET = """
import time
from pathlib import Path

import numpy as np

from cinema_lightning.datasets.base import CaseRef, Dataset, RawCase, RawSeries, dataset


@dataset
class Slow(Dataset):
    name = "slow"
    display = "Slow"
    source = "made up"
    looked_for = "*.txt"
    views = ("sax",)
    crop = "centre"
    splits = "none"

    def cases(self, raw):
        return [CaseRef(path.stem, path.stem, "", (path,)) for path in sorted(Path(raw).glob("*.txt"))]

    def read(self, case):
        time.sleep(0.2)
        return RawCase({"sax": RawSeries(np.arange(2 * 4 * 4 * 2).reshape(2, 4, 4, 2), np.diag([1, 1, 10, 1]))})
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_of_a_process_group(tmp_path, number):
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    for index in range(30):
        (raw / f"s{index:02d}.txt").touch()
    (tmp_path / "slow_dataset.py").write_text(DATASET)
    (tmp_path / "script.py").write_text(SCRIPT.format(folder=str(tmp_path), raw=str(raw), out=str(out)))
    command = [sys.executable, str(tmp_path / "script.py")]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 60
        while not list(out.glob("s*/record.json")) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, number)
        printed, _ = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == 128 + number, printed
    assert "the same command goes on from there" in printed
    assert "Traceback" not in printed
    done = sorted(path.name for path in out.iterdir())
    assert 0 < len(done) < 30
    assert all((out / name / "record.json").is_file() and (out / name / "sax.b2nd").is_file() for name in done)
