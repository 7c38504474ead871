"""Time and memory of a fine-tuning step of ConvUNetR on SAX, against the step as it was on 25 November 2026.

    OMP_NUM_THREADS=1 python benchmarks/finetune_depth.py --threads 1 --json finetune_depth.json

Base size, batch 1, float32: forward, loss, backward, clipping and AdamW, whose moments are in the peak. The reference
always computes 16 slices, as the data were padded to; ours compute what a scan has. Each variant is a process of its
own, so that its peak is its own; idle it keeps weights and moments, 2 GB at base size. They take turns (A B A B ...).
Seconds of the process's threads stand beside those of the clock: on a shared machine only the former mean much.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import reference_finetune as reference
from cinema_lightning.losses.segmentation import segmentation_loss
from cinema_lightning.models.convunetr import ConvUNetR
from common import median_ratio, synchronise

N_CLASSES = 4
REFERENCE = "reference, 16 slices"


@dataclass(frozen=True)
class Variant:
    """One way to make the step.

    Attributes:
        slices: Slices of the stack.
        options: Options of the network.
        frozen: Computed by :mod:`reference_finetune`.
    """

    slices: int
    options: tuple[str, ...] = ()
    frozen: bool = False


VARIANTS = {
    REFERENCE: Variant(reference.SLICES, frozen=True),
    "16 slices": Variant(16),
    "16 slices, checkpoint_decoder": Variant(16, ("checkpoint_decoder",)),
    "16 slices, checkpointing": Variant(16, ("checkpointing",)),
    "11 slices": Variant(11),
    "9 slices": Variant(9),
    "9 slices, checkpoint_decoder": Variant(9, ("checkpoint_decoder",)),
    "9 slices, checkpointing": Variant(9, ("checkpointing",)),
}


def stepper(variant: Variant, size: str, batch: int, device: torch.device) -> Callable[[], None]:
    """Returns a function that takes one step."""
    torch.manual_seed(0)
    model = ConvUNetR(["sax"], classes=N_CLASSES, size=size, **dict.fromkeys(variant.options, True)).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.05, fused=True)
    shape = (*model.input_size["sax"][:2], variant.slices)
    image = torch.rand(batch, 1, *shape, device=device)
    labels = torch.randint(N_CLASSES, (batch, *shape), device=device)

    def step() -> None:
        if variant.frozen:
            loss = reference.loss(reference.forward(model, image), labels)
        else:
            loss = segmentation_loss(model({"sax": image})["sax"], labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        model.zero_grad(set_to_none=True)
        synchronise(device)

    return step


def serve(name: str, args: argparse.Namespace) -> None:
    """Takes a step for each line that comes in, and says how long it took and the peak so far."""
    device = torch.device(args.device)
    step = stepper(VARIANTS[name], args.size, args.batch, device)
    print("ready", flush=True)
    for _ in sys.stdin:
        clock, core = time.perf_counter(), time.process_time()
        step()
        print(time.perf_counter() - clock, time.process_time() - core, peak(device), flush=True)


def peak(device: torch.device) -> float:
    """Most memory so far, GB (1e9 bytes)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM"):  # of this process alone, not of the one that started it
            return int(line.split()[1]) * 1024 / 1e9
    raise OSError("this system does not say a process's peak")


class Worker:
    """A process that takes steps of one variant when it is asked to."""

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        options = ("device", "size", "threads", "batch")
        command = [sys.executable, __file__, "--serve", name]
        command += [word for key in options for word in (f"--{key}", str(getattr(args, key)))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def step(self) -> tuple[float, float, float]:
        """Seconds of the clock, of the threads, and peak in GB."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        clock, core, gb = map(float, self._answer().split())
        return clock, core, gb

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a variant ended with code {self.process.wait()}")
        return line

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2, help="timed steps per variant, after one that is not")
    parser.add_argument("--size", default="base", help="size of the network")
    parser.add_argument("--batch", type=int, default=1, help="scans in a step")
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument(
        "--only", nargs="+", choices=list(VARIANTS), default=[REFERENCE, "9 slices", "9 slices, checkpointing"]
    )
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    if args.serve:
        serve(args.serve, args)
        return
    workers = {name: Worker(name, args) for name in args.only}
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in workers}
    for turn in range(1 + args.steps):
        for name, worker in workers.items():
            measured = worker.step()
            if turn:
                found[name].append(measured)
    for worker in workers.values():
        worker.close()
    columns = {name: list(zip(*rows, strict=True)) for name, rows in found.items()}
    base = columns.get(REFERENCE)
    rows = {}
    print(f"{'variant':32} {'s/step':>8} {'ratio':>7} {'core s':>8} {'ratio':>7} {'peak GB':>8}")
    for name, (clock, core, gb) in columns.items():
        row = {"seconds": statistics.median(clock), "core_seconds": statistics.median(core), "peak_gb": max(gb)}
        if base:
            row |= {"ratio": median_ratio(clock, base[0]), "core_ratio": median_ratio(core, base[1])}
        rows[name] = row
        ratio, core_ratio = (f"{row[key]:.3f}" if key in row else "-" for key in ("ratio", "core_ratio"))
        times = f"{row['seconds']:8.2f} {ratio:>7} {row['core_seconds']:8.2f} {core_ratio:>7}"
        print(f"{name:32} {times} {row['peak_gb']:8.2f}")
    if args.json:
        facts = {key: getattr(args, key) for key in ("size", "device", "threads", "batch", "steps")}
        args.json.write_text(json.dumps(facts | {"rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
