"""Every benchmark that needs no training, no GPU and no other package, one after the other, in under 20 minutes.

    make bench        # or: python benchmarks/bench.py [--only NAME ...]

A file here with a ``--json`` of its own is one of them, unless ELSEWHERE says why not. Each runs in a process of its
own and writes ``results/<name>.json``; ``results/bench.json`` says how long each took. A script that fails stops
nothing, and is named at the end. pictures.py then draws from the JSONs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
ELSEWHERE = {
    "bench": "this",
    "gpu": "needs a GPU: make gpu",
    "nnunet": "needs nnU-Net in an environment of its own",
    "learning": "trains for hours",
    "analyse": "trains a network first",
    "own_depth": "trains small networks",
    "real_images": "trains a network, and needs real images",
    "slurm_phantom_benchmark": "trains 18 small networks through SLURM",
}
OPTIONS = {
    "analyse_speed": ["--subjects", "4"],
    "dense_inference": ["--pairs", "2"],
    "end_to_end": ["--turns", "2", "--only", *(f"{run}, mini, small pictures" for run in ("pretraining", "masks"))],
    "finetune_depth": ["--steps", "1"],
    "finetune_step": ["--steps", "1", "--no-memory", "--only", "ConvUNetR 4CH segmentation", "ConvViT 4CH coordinates"],
    "frames_at_once": ["--size", "mini", "--shape", "64", "64", "8", "--batches", "1", "2", "4", "8"],
    "prepare": ["--studies", "8", "--rounds", "1"],
    "pretrain_step": ["--steps", "2"],
    "statistics": ["--quick"],
}
"""Fewer repeats than each script's own, so that all fit into 20 minutes."""


def benchmarks() -> list[str]:
    """Names of the scripts to run."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(HERE.glob("*.py"))}
    scripts = [name for name, text in texts.items() if "__main__" in text and "--json" in text]
    return [name for name in scripts if name not in ELSEWHERE]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=benchmarks(), default=benchmarks(), help="scripts to run")
    args = parser.parse_args()
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    took: dict[str, float] = {}
    failed = []
    for name in args.only:
        print(f"== {name}", flush=True)
        command = [sys.executable, str(HERE / f"{name}.py"), *OPTIONS.get(name, [])]
        start = time.perf_counter()
        if subprocess.run([*command, "--json", str(results / f"{name}.json")], check=False).returncode:
            failed.append(name)
        took[name] = round(time.perf_counter() - start, 1)
    report = {"seconds": took, "minutes": round(sum(took.values()) / 60, 1), "failed": failed}
    (results / "bench.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"{len(took)} benchmarks in {report['minutes']} minutes; failed: {', '.join(failed) or 'none'}.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
