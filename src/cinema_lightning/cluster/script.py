"""Batch scripts: warned or pre-empted jobs save, are requeued and go on.

SLURM warns the batch script alone (``--signal=B:``). It passes the signal on to what it runs in the background, waits
for that to end, and asks for a requeue where the exit code says that the state was saved. Requeueing happens here,
outside any container, since images mostly lack SLURM's commands.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from cinema_lightning.cluster.site import Site


def header(site: Site, name: str, log: str, array: str = "", nodes: int = 1, processes: int = 1) -> list[str]:
    """The ``#SBATCH`` lines.

    Args:
        site: What the cluster wants to know.
        name: Job name.
        log: Path of the output, with SLURM's placeholders.
        array: Such as ``0-11``; empty for a single job.
        nodes: Nodes.
        processes: Tasks per node.

    Returns:
        Lines.
    """
    gpus = f"gpu:{site.gpu_type}:{site.gpus}" if site.gpu_type else f"gpu:{site.gpus}"
    throttle = f"%{site.throttle}" if site.throttle else ""
    options: list[tuple[str, object]] = [
        ("job-name", name),
        ("array", f"{array}{throttle}" if array else None),
        ("partition", site.partition),
        ("account", site.account),
        ("qos", site.qos),
        ("nodes", nodes),
        ("ntasks-per-node", processes),
        ("cpus-per-task", site.cpus or None),
        ("gres", gpus if site.gpus else None),
        ("mem", site.memory),
        ("time", site.time),
        ("signal", f"B:USR2@{site.lead_seconds}"),
        ("chdir", Path.cwd()),
        ("output", log),
    ]
    lines = [f"#SBATCH --{key}={_quoted(value)}" for key, value in options if value is not None]
    return [*lines, "#SBATCH --requeue", "#SBATCH --open-mode=append", *(f"#SBATCH {line}" for line in site.options)]


def _quoted(value: object) -> str:
    text = str(value)
    return f'"{text}"' if any(character.isspace() for character in text) else text


def script(lines: Sequence[str], site: Site, command: str, job: str, note: str = "") -> str:
    """A batch script.

    Args:
        lines: Its header.
        site: Setup and environment.
        command: What to run, as shell text.
        job: The job's own name for ``scontrol requeue``, as shell text. Of an array it has to be the element's: its
            SLURM_JOB_ID may be that of the whole array.
        note: File to write the exit code to, as shell text; empty for none.

    Returns:
        Its text.
    """
    environment = [f"export {name}={shlex.quote(value)}" for name, value in site.environment.items()]
    parts = [
        "#!/bin/bash",
        *lines,
        "# Written by cinema. A warning or a pre-emption is passed on, the state is saved, and the job is requeued.",
        "child=",
        "told=",
        'pass_on() { told=1; [ -z "$child" ] || kill -USR2 "$child" 2>/dev/null; }',
        "trap pass_on TERM USR1 USR2",
        "",
        *environment,
        *site.setup,
        "",
        "code=75",
        'if [ -z "$told" ]; then',
        f"  {command} &",
        "  child=$!",
        "  # a signal ends `wait` before the child ends: wait again",
        '  while told= && { wait "$child"; code=$?; [ -n "$told" ]; }; do :; done',
        "fi",
        "# ended by the signal itself, before it could be handled: there was nothing to save yet",
        'case "$code" in 138 | 140 | 143) code=75 ;; esac',
    ]
    if note:
        parts += [f'echo "$code" >{note}.part && mv -f {note}.part {note}']
    parts += [
        "trap '' TERM USR1 USR2",
        'if [ "$code" -eq 75 ]; then',
        "  # a cancelled job stays cancelled, and one that SLURM requeues by itself needs no help",
        f'  if [ "$(squeue --noheader --jobs="{job}" --format=%T)" = RUNNING ]; then',
        f'    scontrol requeue "{job}"',
        "  fi",
        "fi",
        'exit "$code"',
    ]
    return "\n".join(parts) + "\n"


def launch(site: Site, arguments: Sequence[str], options: str = "--ntasks=1") -> str:
    """``python -m cinema_lightning`` and arguments as shell text, in a step of its own, behind the site's prefix.

    A step, since at a pre-emption with grace time SLURM tells the steps and not the batch script.
    """
    cpus = f" --cpus-per-task={site.cpus}" if site.cpus else ""  # no longer inherited since SLURM 22.05
    command = shlex.join([site.python, "-m", "cinema_lightning", *arguments])
    return " ".join(part for part in (f"srun {options}{cpus}", site.prefix, command) if part)
