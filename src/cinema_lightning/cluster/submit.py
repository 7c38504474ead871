"""``cinema submit``: any training as a SLURM job, on one node or several, that goes on after a pre-emption."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from cinema_lightning.cluster import slurm
from cinema_lightning.cluster.script import header, launch, script
from cinema_lightning.cluster.site import Site, read_site
from cinema_lightning.errors import CinemaError
from cinema_lightning.files import write_text
from cinema_lightning.verbs import call

SUMMARY = "Submit a training, test or prediction to SLURM: cinema submit --site SITE.yaml -- fit --config pretrain.yaml"
VERBS = ("fit", "validate", "test", "predict", "prepare", "phantom")


def submit_job(argv: Sequence[str]) -> int:
    """``cinema submit OPTIONS -- VERB ARGUMENTS``.

    Args:
        argv: What follows ``cinema submit``.

    Returns:
        Exit code.

    Raises:
        CinemaError: If no command follows ``--``, a YAML is malformed, the same job is queued, or SLURM refuses.
    """
    options, dash, command = _split(list(argv))
    asks_help = any(option in ("-h", "--help") for option in options)
    if not asks_help and (not dash or not command or command[0] not in VERBS):
        raise CinemaError(
            f"after -- belongs the command to run, one of {', '.join(VERBS)}: "
            "cinema submit --site my_cluster.yaml --nodes 2 -- fit --config pretrain.yaml"
        )

    def submit(
        site: str, nodes: int = 1, processes: int | None = None, folder: Path = Path("jobs"), dry_run: bool = False
    ) -> int:
        """Submits a command to SLURM.

        `fit` gets --ckpt_path auto, so that it goes on where it was after a pre-emption or the time limit, and the
        numbers of nodes and processes. The same command is not queued twice.

        Args:
            site: YAML of the cluster (see site_example.yaml), by path.
            nodes: Nodes; more than one for `fit` only.
            processes: Processes per node, for `fit` only; by default one per GPU.
            folder: Where batch script and log are written.
            dry_run: Print the batch script and submit nothing.
        """
        return submit_command(command, read_site(site), nodes, processes, folder, dry_run)

    return call("cinema submit", SUMMARY, submit, options)


def _split(argv: list[str]) -> tuple[list[str], bool, list[str]]:
    if "--" not in argv:
        return argv, False, []
    place = argv.index("--")
    return argv[:place], True, argv[place + 1 :]


def submit_command(
    command: list[str],
    site: Site,
    nodes: int = 1,
    processes: int | None = None,
    folder: Path = Path("jobs"),
    dry_run: bool = False,
) -> int:
    """Submits one command.

    Args:
        command: Verb and arguments.
        site: The cluster.
        nodes: Nodes.
        processes: Processes per node; None: one per GPU, at least one.
        folder: Where script and log are written.
        dry_run: Print the script only.

    Returns:
        0.

    Raises:
        CinemaError: If the same command is queued, or SLURM refuses.
    """
    if command[0] != "fit" and (nodes != 1 or processes not in (None, 1)):
        raise CinemaError(f"--nodes and --processes are for fit; {command[0]} runs as one process (see its --shard).")
    if nodes < 1 or (processes is not None and processes < 1):
        raise CinemaError("--nodes and --processes must be at least 1.")
    per_node = (processes or max(site.gpus, 1)) if command[0] == "fit" else 1
    name = f"cinema-{command[0]}-{_digest(command)}"
    place = folder.resolve()
    lines = header(site, name, f"{place}/{name}.out", nodes=nodes, processes=per_node)
    text = script(lines, site, _launch(command, site, nodes, per_node), job="$SLURM_JOB_ID")
    if dry_run:
        print(text)
        return 0
    queued = slurm.queue([name])
    if queued:
        entry = next(iter(queued[name].values()))
        raise CinemaError(
            f"job {entry.job} does that already ({entry.state.lower()}); cancel it first: scancel {entry.job}."
        )
    write_text(place / f"{name}.sh", text)
    job = slurm.sbatch(place / f"{name}.sh")
    print(f"Submitted as job {job}. Log: {place / f'{name}.out'}.")
    return 0


def _launch(command: list[str], site: Site, nodes: int, per_node: int) -> str:
    """``srun`` starts one process per GPU on every node; the trainer is told the same numbers."""
    if command[0] != "fit":
        return launch(site, command)
    given = {argument.partition("=")[0] for argument in command}
    extra = [] if "--ckpt_path" in given else ["--ckpt_path", "auto"]
    for option, value in (("--trainer.num_nodes", nodes), ("--trainer.devices", per_node)):
        if option in given:
            raise CinemaError(f"{option} follows from --nodes, --processes and the site's gpus; leave it out after --.")
        extra.append(f"{option}={value}")
    return launch(site, [*command, *extra], "--kill-on-bad-exit=1")


def _digest(command: Sequence[str]) -> str:
    return hashlib.sha256("\0".join([str(Path.cwd()), *command]).encode()).hexdigest()[:8]
