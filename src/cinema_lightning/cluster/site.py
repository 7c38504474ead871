"""A cluster in one YAML: what to ask SLURM for, and what a job needs before Python starts."""

from __future__ import annotations

import difflib
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from cinema_lightning.configs import find_config
from cinema_lightning.errors import CinemaError
from cinema_lightning.paths import expanded


@dataclass(frozen=True)
class Site:
    """A site, see configs/site_example.yaml.

    Attributes:
        partition: Partition.
        account: Account.
        qos: Quality of service.
        gpus: GPUs per node; 0 asks for none.
        gpu_type: Type of GPU, as in ``--gres=gpu:TYPE:N``.
        cpus: CPU cores per process.
        memory: Memory per node, such as 64G.
        time: Time limit, such as 24:00:00.
        throttle: Elements of an array that run at a time; 0 for all.
        max_array: Longest array (the cluster's MaxArraySize less one).
        lead_seconds: How long before the time limit a job is warned: enough to finish a batch and save.
        options: Further options of sbatch, such as ``--constraint=a100``.
        setup: Shell lines before Python starts: modules, environments.
        prefix: Put before Python: ``apptainer exec --nv image.sif``.
        python: Interpreter in the job; by default the one that submits.
        environment: Environment variables.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    gpus: int = 1
    gpu_type: str | None = None
    cpus: int = 8
    memory: str | None = None
    time: str | None = None
    throttle: int = 0
    max_array: int = 1000
    lead_seconds: int = 120
    options: list[str] = field(default_factory=list)
    setup: list[str] = field(default_factory=list)
    prefix: str = ""
    python: str = sys.executable
    environment: dict[str, str] = field(default_factory=dict)


_KINDS: dict[str, tuple[type, str]] = {
    **dict.fromkeys(("gpus", "cpus", "throttle", "max_array", "lead_seconds"), (int, "a whole number from 0")),
    **dict.fromkeys(("options", "setup"), (list, "a list of lines")),
    "environment": (dict, "NAME: value pairs"),
}


def read_site(name: str) -> Site:
    """Reads a site's YAML.

    Args:
        name: A path, or the name of a packaged one.

    Returns:
        The site.

    Raises:
        CinemaError: Names the file and the key that is unknown or of another type.
    """
    import yaml

    path = find_config(name)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CinemaError(f"{path} is not valid YAML: {getattr(error, 'problem', None) or error}.") from error
    if not isinstance(content, dict):
        raise CinemaError(f"{path} is no site: write key: value pairs as in site_example.yaml.")
    known = [entry.name for entry in fields(Site)]
    for key in content:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}."
            raise CinemaError(f"{path}: key '{key}' is unknown; {hint}")
    return Site(**{key: _value(path, key, value) for key, value in content.items() if value is not None})


def _value(path: Path, key: str, value: Any) -> Any:
    kind, what = _KINDS.get(key, (str, "text"))
    if key == "time" and isinstance(value, int):  # YAML reads an unquoted 24:00:00 as a number in base 60
        raise CinemaError(f"{path}: key 'time' is read as the number {value}; put the time in quotes: \"24:00:00\".")
    if kind is str and isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, kind) or isinstance(value, bool) or (isinstance(value, int) and value < 0):
        raise CinemaError(f"{path}: key '{key}' is {value!r}; give {what}.")
    if isinstance(value, list):
        return [str(line) for line in value]
    if isinstance(value, dict):
        return {str(name): str(text) for name, text in value.items()}
    return expanded(str(value), f"{path}: key 'python'") if key == "python" else value
