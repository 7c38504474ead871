"""nnU-Net's own package beside this one: same machine, same phantom scans, core seconds.

    python benchmarks/nnunet.py --nnunet /path/to/venv/bin/python --json nnunet.json

``cinema phantom`` writes scans as ACDC ships them; their ED and ES frames and label maps are put into nnU-Net's layout
(imagesTr, labelsTr, dataset.json), which both packages prepare. Then a training step of nnU-Net's 3D full-resolution
network on the batch that it plans, and one of ConvUNetR on as many samples; then one case from its file to its mask.
Core seconds of the processes are compared, since a busy machine stretches the clock's.

nnU-Net goes into an environment of its own: ``python -m venv nn && nn/bin/pip install torch==2.13.0 nnunetv2``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

import cinema_lightning
from cinema_lightning.cli import main as cinema
from cinema_lightning.data.table import read_cohort
from finetune_step import SAX, stepper

NUMBER, DATASET = 901, "Dataset901_Phantom"
LABELS = {"background": 0, "RV": 1, "myocardium": 2, "LV": 3}
SIDE = Path(__file__).with_name("nnunet_side.py")


def export(raw: Path, folder: Path) -> Path:
    """Puts ACDC's frames with label maps into nnU-Net's layout; gives the first image."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    truths = sorted(raw.glob("database/training/*/*_gt.nii.gz"))
    for truth in truths:
        name = truth.name.removesuffix("_gt.nii.gz")
        shutil.copyfile(truth, folder / "labelsTr" / f"{name}.nii.gz")
        shutil.copyfile(truth.with_name(f"{name}.nii.gz"), folder / "imagesTr" / f"{name}_0000.nii.gz")
    described = {"channel_names": {"0": "cine"}, "labels": LABELS, "numTraining": len(truths), "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
    return next(iter(sorted(folder.glob("imagesTr/*"))))


def core_seconds(command: list[str], **more: str) -> tuple[float, str]:
    """Runs a command; core seconds of it and its children, and what it printed last."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | more)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if result.returncode:
        raise SystemExit(f"{' '.join(command[:3])} failed:\n{(result.stdout + result.stderr)[-2000:]}")
    last = result.stdout.strip().splitlines()[-1:] or [""]
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, last[0]


def theirs(python: Path, raw: Path, work: Path, image: Path, steps: int, threads: int) -> dict[str, Any]:
    """nnU-Net's core seconds."""
    places = {f"nnUNet_{name}": str(work / name) for name in ("preprocessed", "results")}
    more = {"nnUNet_raw": str(raw), "nnUNet_n_proc_DA": "1", "OMP_NUM_THREADS": str(threads), **places}
    plan = str(python.with_name("nnUNetv2_plan_and_preprocess"))
    prepare, _ = core_seconds([plan, "-d", str(NUMBER), "-c", "3d_fullres", "-np", "1", "-npfp", "1"], **more)
    side, more = [str(python), str(SIDE)], more | {"nnUNet_n_proc_DA": "0"}  # batches are made where they are timed
    tail = [DATASET, str(steps), str(threads)]
    _, found = core_seconds([*side, "steps", *tail], **more)
    _, case = core_seconds([*side, "predict", *tail, str(image)], **more)
    return {"prepare": prepare, **json.loads(found), **json.loads(case)}


def ours(raw: Path, work: Path, image: Path, steps: int, samples: int, small: bool) -> dict[str, Any]:
    """This package's core seconds, with ConvUNetR at base size."""
    store = work / "store"
    command = [str(Path(sys.executable).with_name("cinema")), "prepare", str(raw / DATASET / "dataset.json")]
    prepare, _ = core_seconds([*command, "--out", str(store), *(["--size", "small"] if small else [])])
    cohort = read_cohort(store)
    slices = max(cohort.reader.open(str(study), "sax").shape[-1] for study in cohort.ids)  # no slice that is not there
    size = [64, 64, slices] if small else [192, 192, slices]
    fit = ["fit", "--config", "seg.yaml", "--config", "laptop.yaml", "--data.root", str(store), "--runs", str(work)]
    fit += ["--model.network.size=base", f"--data.input_size={{sax: {size}}}", "--data.batch_size=1"]
    fit += ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"]
    fit += ["--pictures.every_n_epochs=0", "--trainer.enable_progress_bar=false", "--data.num_workers=0"]
    if cinema(fit):
        raise SystemExit(f"ConvUNetR could not be trained on {len(cohort.ids)} prepared scans.")
    model = cinema_lightning.load(next(work.glob("*/0/checkpoints/best.ckpt")))
    cases = [_timed(lambda: model(str(image)).labels) for _ in range(3)]
    step = stepper(SAX, "base", torch.device("cpu"), {"sax": tuple(size)}, samples)
    step()
    seconds = [_timed(step) for _ in range(steps)]
    shape = [samples, 1, *size]
    return {"prepare": prepare, "step": statistics.median(seconds), "shape": shape, "predict": statistics.median(cases)}


def _timed(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures side by side."""
    rows = [f"{'core seconds':44} {'nnU-Net':>10} {'ConvUNetR':>10} {'ratio':>7}"]
    names = {"prepare": "preparing all scans", "step": "training step", "batch": "making its batch"}
    names |= {"predict": "one case", "predict_mirrored": "one case, mirrored as nnU-Net does"}
    for key, title in names.items():
        one, other = found["nnunet"].get(key), found["cinema"].get(key)
        ratio = f"{other / one:7.2f}" if one and other else ""
        rows.append(
            f"{title:44} " + " ".join(f"{value:10.2f}" if value else " " * 10 for value in (one, other)) + ratio
        )
    return "\n".join([*rows, *(f"{name}: a step sees {side['shape']}" for name, side in found.items())])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nnunet", type=Path, help="a Python that has nnunetv2")
    parser.add_argument("--size", choices=["small", "full"], default="small", help="size of the phantom scans")
    parser.add_argument("--subjects", type=int, default=10)
    parser.add_argument("--steps", type=int, default=3, help="timed steps")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    args = parser.parse_args()
    if args.nnunet is None or not args.nnunet.with_name("nnUNetv2_plan_and_preprocess").is_file():
        print(
            "nnU-Net is not here, so nothing was compared: give --nnunet the Python of an environment with nnunetv2 "
            "(python -m venv nn && nn/bin/pip install torch nnunetv2)."
        )
        return 0
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        scans = ["--size", args.size, "--subjects", str(args.subjects), "--out", str(work / "scans")]
        if cinema(["phantom", "--dataset", "acdc", *scans]):
            return 1
        raw = work / "raw"
        image = export(work / "scans", raw / DATASET)
        found = {"nnunet": theirs(args.nnunet.absolute(), raw, work, image, args.steps, args.threads)}
        samples = found["nnunet"]["shape"][0]
        found["cinema"] = ours(raw, work, image, args.steps, samples, args.size == "small")
    print(table(found))
    if args.json:
        options = {name: getattr(args, name) for name in ("size", "subjects", "steps", "threads")}
        args.json.write_text(json.dumps(options | found, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
