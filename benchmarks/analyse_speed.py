"""Time and memory of `cinema analyse` for one study of 12 slices x 30 phases, and what `--fast` costs in EF.

    python benchmarks/analyse_speed.py --frames 30 --json FILE

The network is ConvUNetR of random weights at base size, one study after the other in one process. `--frames 3` times
three frames and scales them, since a frame takes as long as any other. Times are core seconds, which other work on the
machine stretches less than those of the clock.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.cli import instantiate_module

from analyse_studies import Truth, make, sources
from cinema_lightning.analysis.curves import phases_of, search
from cinema_lightning.analysis.heart import heart_of
from cinema_lightning.analysis.networks import load_networks
from cinema_lightning.analysis.segment import segment
from cinema_lightning.analysis.sort import read_dicom
from cinema_lightning.analysis.study import judged
from cinema_lightning.analysis.values import Measured, Result
from cinema_lightning.analysis.write import write_result
from cinema_lightning.files import replacing
from cinema_lightning.phantom.anatomy import Heart
from cinema_lightning.phantom.subject import draw_subject
from cinema_lightning.tasks.base import Task

PHASES, SLICES, SEED = 30, 12, 40
FACTS: dict[str, Any] = {
    "views": ["sax"],
    "input_size": {"sax": [192, 192, 16]},
    "channels": 1,
    "channel_names": ["image"],
    "kind": "segmentation",
    "dataset": "phantom",
    "spacing_known": True,
    "spacing": {"sax": [1.0, 1.0, 10.0]},
    "n_train": 1,
    "classes": ["background", "RV blood pool", "myocardium", "LV blood pool"],
    "label_codes": [0, 1, 2, 3],
}


def untrained(path: Path, size: str) -> Path:
    """A checkpoint of random weights."""
    hparams = {
        "_class_path": "cinema_lightning.tasks.segmentation.task.Segmentation",
        "spec": FACTS,
        "network": {"class_path": "cinema_lightning.models.convunetr.ConvUNetR", "init_args": {"size": size}},
    }
    torch.manual_seed(0)
    task = instantiate_module(Task, hparams)
    version = {"pytorch-lightning_version": "2.6.6", "epoch": 0, "global_step": 0}
    torch.save({"state_dict": task.state_dict(), "hyper_parameters": hparams, **version}, path)
    return path


def cost(size: str, frames: int, folder: Path) -> dict[str, float]:
    """Core seconds of each step, frames of the network scaled to the whole beat, and the peak of memory, GB."""
    full = {"n_slices": SLICES, "sax_size": (208, 208), "sax_spacing": (1.4, 1.4)}
    study = make(SEED, 1, views=False, frames=PHASES, **full)
    files, _ = sources(study, 1)
    network = load_networks([untrained(folder / "random.ckpt", size)]).masks["sax"]
    start = time.process_time()
    found = read_dicom(files, str)
    view, read = found.views["sax"], time.process_time()
    heart = heart_of(found.views)
    few = np.linspace(0, view.n_frames, frames, endpoint=False).astype(int)
    looked = time.process_time()
    network({"sax": view.frames[24:-24, 24:-24][..., few]}, affine=view.affine)  # 192 x 192 mm and a margin, as cropped
    seen = time.process_time()
    masks = segment(view, Truth(study), heart=None)
    measuring = time.process_time()
    write_result(folder / "out", judged(Result(found, {"sax": masks}, Measured({}))))
    done = time.process_time()
    frame = (seen - looked) / frames
    rest = (read - start) + (looked - read) + (done - measuring)
    scale = 1 if sys.platform == "darwin" else 1024
    return {
        "read": read - start,
        "frame": frame,
        "measure_and_write": done - measuring,
        "full": rest + PHASES * frame,
        "fast": rest + 12 * frame,
        "timed_frames": frames,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e9,
        "slices": view.frames.shape[2],
        "heart_found": heart is not None,
    }


def moved_by_fast(count: int, noise: float) -> dict[str, float]:
    """How far EF moves, in points, where few frames are looked at: phantoms' volumes, with noise of some ml a frame."""
    rng, off, looks = np.random.default_rng(SEED), [], 0
    for index in range(count):
        heart, start = Heart(draw_subject(SEED, index)), index * 7 % PHASES
        times = [((frame + start) % PHASES) / PHASES for frame in range(PHASES)]
        curve = np.array([heart.ventricles.volumes(heart.at(time))[0] for time in times]) + rng.normal(0, noise, PHASES)
        looked = search(PHASES, lambda frames, curve=curve: curve[frames].tolist())
        whole, few = (100 * (1 - curve[phases.es] / curve[phases.ed]) for phases in map(phases_of, (curve, looked)))
        off.append(few - whole)
        looks = max(looks, int(np.isfinite(looked).sum()))
    facts = {"mean": float(np.mean(off)), "sd": float(np.std(off, ddof=1)), "largest": float(np.abs(off).max())}
    return {"n": count, "noise": noise, "frames": looks, **facts}


def main() -> None:
    """Prints the figures and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="base")
    parser.add_argument("--frames", type=int, default=PHASES, help="frames to time of 30")
    parser.add_argument("--subjects", type=int, default=40, help="phantoms on which --fast is compared")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        out = {
            "cost": cost(given.size, given.frames, Path(folder)),
            "fast": [moved_by_fast(given.subjects, noise) for noise in (0.0, 2.0)],
        }
    print(json.dumps(out, indent=1))
    if given.json:
        with replacing(given.json) as temporary:
            temporary.write_text(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
