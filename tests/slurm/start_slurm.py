"""A real SLURM of one node on 127.0.0.1, in a folder of its own and on ports of its own.

    python tests/slurm/start_slurm.py start FOLDER     starts munged, slurmctld, slurmd; prints shell exports
    python tests/slurm/start_slurm.py stop FOLDER      stops them again

Needs root and Debian's packages slurmctld, slurmd, slurm-client and munge. After `eval` of what `start` prints, sbatch,
squeue, scontrol and scancel talk to this SLURM. It has two partitions over the same node: `main`, and `urgent`, whose
jobs pre-empt those of `main` (requeue, with a grace time).
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")
CPUS = 4  # may be more than there are: nothing is bound to cores

CONF = """\
ClusterName=cinematest
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,default_queue_depth=200,batch_sched_delay=0,sched_min_interval=100000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=15
MinJobAge=600
SlurmctldTimeout=60
SlurmdTimeout=60
InactiveLimit=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmctldParameters=enable_configless
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=30
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def missing() -> str:
    """Why SLURM cannot be started here; empty if it can."""
    absent = [name for name in NEEDED if which(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed (apt-get install slurmctld slurmd slurm-client munge)"
    return "" if os.geteuid() == 0 else "starting munged and slurmd needs root"


def which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def environment(folder: Path) -> dict[str, str]:
    """What makes SLURM's commands talk to this SLURM."""
    return {"SLURM_CONF": str(folder / "slurm.conf")}


def start(folder: Path) -> dict[str, str]:
    """Starts the three daemons and waits until the node is idle.

    Returns:
        Environment for SLURM's commands.
    """
    folder = folder.resolve()
    for part in ("state", "spool"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for parent in (folder, *folder.parents):  # munged refuses a socket that others cannot reach
        if parent != Path("/tmp") and parent.stat().st_mode & 0o055 != 0o055 and parent.is_relative_to("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
    ctld_port, slurmd_port = free_ports(2)
    host = socket.gethostname().split(".")[0]
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) // 1024 - 256
    text = CONF.format(folder=folder, host=host, cpus=CPUS, memory=memory, ctld_port=ctld_port, slurmd_port=slurmd_port)
    (folder / "slurm.conf").write_text(text)
    # nothing here uses cgroups; this plug-in, unlike the others, asks for nothing when it is loaded
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    daemon(
        folder,
        "munged",
        f"--key-file={key}",
        f"--socket={folder}/munge.socket",
        f"--pid-file={folder}/munged.pid",
        f"--log-file={folder}/munged.log",
        f"--seed-file={folder}/munge.seed",
        "--num-threads=2",
        "--force",
    )
    daemon(folder, "slurmctld", "-c", "-f", str(folder / "slurm.conf"))
    daemon(folder, "slurmd", "-N", host, "-f", str(folder / "slurm.conf"))
    try:
        wait_idle(folder)
    except BaseException:
        stop(folder)
        raise
    return environment(folder)


def daemon(folder: Path, name: str, *arguments: str) -> None:
    result = subprocess.run(
        [str(which(name)), *arguments],
        env={**os.environ, **environment(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
        check=False,
    )
    if result.returncode:
        stop(folder)
        raise SystemExit(f"{name} did not start: {result.stdout.strip()}")


def wait_idle(folder: Path, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    said = ""
    while time.monotonic() < until:
        answer = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"],
            env={**os.environ, **environment(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        said = (answer.stdout + answer.stderr).strip()
        if "idle" in answer.stdout.split():
            return
        time.sleep(0.5)
    logs = "".join(
        f"\n--- {log}\n" + "\n".join((folder / log).read_text(errors="replace").splitlines()[-15:])
        for log in ("slurmctld.log", "slurmd.log")
        if (folder / log).is_file()
    )
    raise SystemExit(f"the node did not become idle: {said}{logs}")


def stop(folder: Path) -> None:
    """Ends the jobs, then the daemons that this folder's files name."""
    folder = folder.resolve()
    env = {**os.environ, **environment(folder)}
    if (folder / "slurmctld.pid").is_file():
        for job_signal in ((), ("--signal=KILL", "--full")):
            subprocess.run(
                ["scancel", *job_signal, "--user=root"], env=env, capture_output=True, timeout=30, check=False
            )
            time.sleep(1)
    for name in ("slurmd", "slurmctld", "munged"):
        try:
            pid = int((folder / f"{name}.pid").read_text())
            os.kill(pid, signal.SIGTERM)
        except (OSError, ValueError):
            continue
        for _ in range(100):
            if not Path(f"/proc/{pid}").exists():
                break
            time.sleep(0.1)
        else:
            os.kill(pid, signal.SIGKILL)


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1] not in ("start", "stop"):
        print(__doc__)
        return 2
    folder = Path(sys.argv[2])
    if sys.argv[1] == "stop":
        stop(folder)
        return 0
    if reason := missing():
        print(f"SLURM cannot be started here: {reason}", file=sys.stderr)
        return 1
    for name, value in start(folder).items():
        print(f"export {name}={value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
