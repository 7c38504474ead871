"""Locks that hold on a shared file system, where ``flock`` does not: hard links, generations and heartbeats.

A lock is a folder of numbered files, one per holder (``000001``, ``000002``, ...). Whoever makes the next number by
``link``, which the server does atomically, holds the lock (by exclusive creation, where there are no hard links);
nobody ever deletes a number, so that two takers of one stale lock meet at the same next number and one of them loses.
The holder refreshes its file's time every few seconds; releasing writes ``released`` into the holder's own file.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cinema_lightning.errors import CinemaError
from cinema_lightning.files import replacing

HEARTBEAT_SECONDS = 20.0
STALE_SECONDS = 300.0
"""Without a heartbeat for so long a holder counts as dead. Far above what a busy file server delays a write by."""

_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)
"""How file systems say that they know no hard links."""


@dataclass(frozen=True)
class Holder:
    """Who holds, or held, a lock.

    Attributes:
        generation: Its number.
        host: Host name.
        pid: Process.
        since: Unix time.
        facts: All that its file says.
        age: Seconds since the last heartbeat, by the file server's clock.
    """

    generation: int
    host: str
    pid: int
    since: float
    facts: dict[str, Any]
    age: float

    @property
    def job(self) -> str:
        """SLURM job of the holder, such as ``12_3``; empty outside SLURM."""
        return str(self.facts.get("job") or "")


JobAlive = Callable[[dict[str, Any]], bool | None]
"""Whether the SLURM job of a holder still runs; None where nobody can tell."""


def _nobody_knows(facts: dict[str, Any]) -> bool | None:  # noqa: ARG001
    return None


def _machine() -> str:
    """This boot of this kernel, and this namespace of processes: where a process id means what it says."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115  (no path)
    except OSError:
        return ""


def process_start(pid: int) -> str:
    """When a process started, in ticks since boot; empty where there is none. Process ids are used again."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = stat.rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]


class Lock:
    """A lock on a folder of results.

    Args:
        folder: Folder of the lock's files; made where it is missing.
        job_alive: Asks the scheduler about a holder's job.
        heartbeat: Seconds between heartbeats.
        stale: Seconds without one after which a holder counts as dead.
    """

    def __init__(
        self,
        folder: Path,
        job_alive: JobAlive | None = None,
        heartbeat: float = HEARTBEAT_SECONDS,
        stale: float = STALE_SECONDS,
    ) -> None:
        self.folder = Path(folder)
        self.lost = threading.Event()
        self.generation = 0
        self._job_alive = job_alive or _nobody_knows
        self._heartbeat = heartbeat
        self._stale = stale
        self._facts: dict[str, Any] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._writing = threading.Lock()

    # ------------------------------------------------------------------ asking
    def holder(self) -> Holder | None:
        """Who holds the lock; None where it is free, released or stale."""
        last = self.last()
        return None if last is None or self._is_over(last) else last

    def last(self) -> Holder | None:
        """The latest holder, dead or alive."""
        if not self.folder.is_dir():
            return None
        number = max((int(entry.name) for entry in self.folder.iterdir() if entry.name.isdigit()), default=0)
        while self._file(number + 1).exists():
            number += 1
        return self._read(number) if number else None

    def _read(self, generation: int) -> Holder:
        path = self._file(generation)
        try:
            modified = path.stat().st_mtime
            facts = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            modified, facts = 0.0, {"released": True}
        except (json.JSONDecodeError, UnicodeDecodeError):
            facts = {}  # nobody writes half a file here; whatever it is, its time of modification still speaks
        return Holder(
            generation,
            str(facts.get("host", "?")),
            int(facts.get("pid", 0)),
            float(facts.get("since", modified)),
            facts,
            max(0.0, self._server_time() - modified),
        )

    def _server_time(self) -> float:
        """The clock that the heartbeats are written with, which may differ from this machine's."""
        probe = self.folder / f".clock-{uuid.uuid4().hex}"
        try:
            probe.touch()
            return probe.stat().st_mtime
        except OSError:  # a folder that may only be read
            return time.time()
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)

    def _is_over(self, holder: Holder) -> bool:
        facts = holder.facts
        if facts.get("released") or holder.age > self._stale:
            return True
        if facts.get("machine") and facts["machine"] == _machine():
            processes = [(holder.pid, facts.get("started")), (facts.get("child"), facts.get("child_started"))]
            if not any(pid and process_start(int(pid)) == started for pid, started in processes):
                return True
        if not facts.get("job_id"):
            return False
        mine = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_RESTART_COUNT", "0")
        if facts["job_id"] == mine[0]:
            return facts.get("restart") != mine[1]  # this very job, before it was requeued
        # a fresh heartbeat is enough; only a holder that is late is worth a question to the scheduler
        return holder.age > 3 * self._heartbeat and self._job_alive(facts) is False

    # ------------------------------------------------------------------ taking
    def acquire(self) -> Holder | None:
        """Takes the lock.

        Returns:
            None when it is taken; else who holds it.

        Raises:
            CinemaError: If the file system lets nobody write.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CinemaError(f"{self.folder} cannot be made ({error.strerror or error}); mend the folder.") from error
        self._facts = _own_facts()
        while True:
            last = self.last()
            if last is not None and not self._is_over(last):
                return last
            generation = (last.generation if last else 0) + 1
            if self._link(generation):
                self.generation = generation
                break
            time.sleep(0.05)  # another was first; a client's cached listing may take a moment to show it
        self._thread = threading.Thread(target=self._beat, daemon=True, name=f"lock {self.folder}")
        self._thread.start()
        return None

    def _link(self, generation: int) -> bool:
        """Makes the next number, whole; False if another was first."""
        temporary = self.folder / f".{self._facts['token']}"
        target = self._file(generation)
        try:
            temporary.write_text(json.dumps(self._facts), encoding="utf-8")
            target.hardlink_to(temporary)
        except FileExistsError:
            # an answer lost on the way makes NFS ask again: the link may be ours
            return temporary.stat().st_nlink == 2 and target.samefile(temporary)
        except OSError as error:
            if error.errno in _NO_LINKS:
                return self._create(target)
            raise CinemaError(
                f"{target} cannot be made ({error.strerror or error}); put the benchmark's root on a file system "
                "that can be written."
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def _create(self, target: Path) -> bool:
        """Makes the next number where there are no hard links: not whole at once, but by one process only."""
        try:
            with target.open("x", encoding="utf-8") as file:
                file.write(json.dumps(self._facts))
        except FileExistsError:
            return False
        except OSError as error:
            raise CinemaError(f"{target} cannot be made ({error.strerror or error}); mend the folder.") from error
        return True

    def _file(self, generation: int) -> Path:
        return self.folder / f"{generation:06d}"

    def _beat(self) -> None:
        while not self._stop.wait(self._heartbeat):
            if self._file(self.generation + 1).exists():  # taken over: this process was thought dead
                self.lost.set()
                return
            try:
                with self._writing:
                    os.utime(self._file(self.generation))
            except OSError:
                continue  # the server is away; the next beat may reach it

    @property
    def job(self) -> str:
        """The SLURM job that holds the lock through this process; empty outside SLURM."""
        return str(self._facts.get("job") or "")

    def tell(self, **facts: Any) -> None:
        """Adds to what the holder's file says, such as the process id of a child."""
        self._facts |= facts
        if "child" in facts:
            self._facts["child_started"] = process_start(int(facts["child"])) if facts["child"] else None
        with self._writing, replacing(self._file(self.generation)) as temporary:
            temporary.write_text(json.dumps(self._facts), encoding="utf-8")

    def release(self) -> None:
        """Gives the lock back."""
        if not self.generation:
            return
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if not self.lost.is_set():
            self.tell(released=True)
        self.generation = 0


def _own_facts() -> dict[str, Any]:
    import getpass

    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job_id = os.environ.get("SLURM_JOB_ID")
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = str(os.getuid())
    return {
        "token": uuid.uuid4().hex,
        "host": socket.gethostname(),
        "machine": _machine(),
        "user": user,
        "pid": os.getpid(),
        "started": process_start(os.getpid()),
        "since": time.time(),
        "job_id": job_id,
        "job": f"{array}_{task}" if array and task else job_id,
        "restart": os.environ.get("SLURM_RESTART_COUNT", "0"),
        "cluster": os.environ.get("SLURM_CLUSTER_NAME"),
    }
