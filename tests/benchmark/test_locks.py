"""Locks: one holder, whatever happens to the others."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cinema_lightning.benchmark.locks import Lock


def forge(lock: Lock, **facts) -> None:
    """A holder on another machine."""
    lock.folder.mkdir(exist_ok=True)
    content = {"host": "elsewhere", "machine": "other", "pid": 1, "since": 0, "token": "x"} | facts
    (lock.folder / "000001").write_text(json.dumps(content))


def take_and_die(folder, then: str = "") -> None:
    """Another process takes the lock and ends without a word."""
    code = "import os\nfrom pathlib import Path\nfrom cinema_lightning.benchmark.locks import Lock\n"
    code += f"lock = Lock(Path({str(folder)!r}))\nlock.acquire()\n{then}\nos._exit(0)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_one_at_a_time_and_again_after_release(tmp_path):
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert first.acquire() is None
    holder = second.acquire()
    assert holder is not None
    assert holder.pid == os.getpid()
    first.release()
    assert second.holder() is None
    assert second.acquire() is None
    second.release()


def test_a_file_system_without_hard_links(tmp_path, monkeypatch):
    def link(*_args):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "hardlink_to", link)
    test_one_at_a_time_and_again_after_release(tmp_path)


def test_a_lock_of_a_dead_process_is_free(tmp_path):
    take_and_die(tmp_path / "lock")
    lock = Lock(tmp_path / "lock")
    assert lock.last() is not None
    assert lock.holder() is None
    assert lock.acquire() is None
    lock.release()


def test_the_child_of_a_dead_process_keeps_the_lock(tmp_path):
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        take_and_die(tmp_path / "lock", f"lock.tell(child={sleeper.pid})")
        assert Lock(tmp_path / "lock").acquire() is not None
    finally:
        sleeper.kill()
        sleeper.wait()
    lock = Lock(tmp_path / "lock")
    assert lock.acquire() is None
    lock.release()


def test_a_process_id_that_was_used_again_is_another_process(tmp_path):
    first = Lock(tmp_path / "lock")
    assert first.acquire() is None
    first.tell(started="1")
    assert Lock(tmp_path / "lock").holder() is None
    first.release()


def test_another_machine_counts_as_alive_until_its_heartbeat_is_old(tmp_path):
    lock = Lock(tmp_path / "lock")
    forge(lock)
    assert lock.acquire() is not None
    old = time.time() - 3600
    os.utime(lock.folder / "000001", (old, old))
    assert lock.acquire() is None
    lock.release()


@pytest.mark.parametrize(("answer", "free"), [(False, True), (True, False), (None, False)])
def test_the_scheduler_knows_better(tmp_path, answer, free):
    lock = Lock(tmp_path / "lock", job_alive=lambda facts: answer)
    forge(lock, job_id="12", job="12_3")
    assert lock.holder() is not None, "its heartbeat is fresh"
    late = time.time() - 100
    os.utime(lock.folder / "000001", (late, late))
    assert (lock.holder() is None) == free


def test_a_requeued_job_does_not_wait_for_its_own_former_life(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    lock = Lock(tmp_path / "lock", job_alive=lambda facts: True)
    forge(lock, job_id="12", restart="0")
    assert lock.holder() is None
    forge(lock, job_id="12", restart="1")
    assert lock.holder() is not None


def test_of_many_takers_of_a_stale_lock_one_gets_it(tmp_path):
    forge(Lock(tmp_path / "lock"), released=True)
    locks = [Lock(tmp_path / "lock") for _ in range(16)]
    barrier = threading.Barrier(len(locks))
    results = [object()] * len(locks)

    def take(i):
        barrier.wait()
        results[i] = locks[i].acquire()

    threads = [threading.Thread(target=take, args=(i,)) for i in range(len(locks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(result is None for result in results) == 1
    for lock in locks:
        lock.release()


def test_the_heartbeat_keeps_it_and_notices_a_takeover(tmp_path):
    lock = Lock(tmp_path / "lock", heartbeat=0.05)
    assert lock.acquire() is None
    file = lock.folder / "000001"
    old = time.time() - 3600
    os.utime(file, (old, old))
    time.sleep(0.3)
    assert time.time() - file.stat().st_mtime < 60
    (lock.folder / "000002").write_text("{}")
    assert lock.lost.wait(2)
    lock.release()
    assert "released" not in json.loads(file.read_text())
