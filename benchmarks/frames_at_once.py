"""Speed and memory of dense prediction by the number of frames in one pass.

    python benchmarks/frames_at_once.py --device cuda --json frames_at_once.json

ConvUNetR at base size (--size) on 192 x 192 x 16 stacks (--shape), evaluation mode, no gradient, in float32 and, where
the device has it, under bf16. Medians of a frame's seconds, from memory of the host to logits on the device. Beside the
peak that was measured on a GPU stands what is counted beforehand, by which `cinema predict` decides (see details.md,
"Frames at once"). After a number of frames that does not fit into the memory no larger one is tried.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.memory import pass_bytes, samples_at_once
from cinema_lightning.models.precision import choose_float32, has_fast_bf16
from common import WARM_UPS, synchronise

VIEW = "sax"


def measure(network: ConvUNetR, images: Tensor, device: torch.device, bf16: bool, turns: int) -> dict[str, float]:
    """Seconds a frame, and the most memory that was taken beside the weights."""
    on_cuda = device.type == "cuda"
    before = 0
    if on_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    seconds = []
    for _ in range(WARM_UPS + turns):
        start = time.perf_counter()
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            network({VIEW: images.to(device)})
        synchronise(device)
        seconds.append((time.perf_counter() - start) / len(images))
    row = {"seconds_a_frame": statistics.median(seconds[WARM_UPS:])}
    if on_cuda:
        row["peak_gb"] = (torch.cuda.max_memory_allocated(device) - before) / 1e9
    return row


def tell(precision: str, batch: int, row: dict[str, Any]) -> None:
    """Prints a row."""
    took = f"{1000 * row['seconds_a_frame']:11.2f}" if "seconds_a_frame" in row else f"{'too many':>11}"
    peak = f"{row['peak_gb']:8.2f}" if "peak_gb" in row else f"{'-':>8}"
    print(f"{precision:10} {batch:6d} {took} {peak} {row['counted_gb']:11.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32], help="frames in one pass")
    parser.add_argument("--turns", type=int, default=5, help="timed passes of each")
    parser.add_argument("--size", default="base", help="size of the network")
    parser.add_argument("--shape", nargs=3, type=int, default=[192, 192, 16], help="voxels of a stack")
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    choose_float32(training=False)
    torch.manual_seed(0)
    network = ConvUNetR([VIEW], input_size={VIEW: tuple(args.shape)}, size=args.size).eval().requires_grad_(False)
    network.to(device)
    report: dict[str, Any] = {name: getattr(args, name) for name in ("size", "shape", "device", "threads", "turns")}
    report["chosen"] = samples_at_once(network, {VIEW: (1, *args.shape)}, device)
    print(f"Chosen by itself: {report['chosen']} frames at once")
    print(f"{'precision':10} {'frames':>6} {'ms a frame':>11} {'peak GB':>8} {'counted GB':>11}")
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for precision in ("float32", *(["bf16"] if has_fast_bf16(device) else [])):
        rows[precision] = {}
        for batch in args.batches:
            images = torch.rand(batch, 1, *args.shape)
            try:
                row: dict[str, Any] = measure(network, images, device, precision == "bf16", args.turns)
            except torch.OutOfMemoryError:
                row = {"fits": False}
            row["counted_gb"] = pass_bytes(network, {VIEW: tuple(images.shape)}, device) / 1e9
            rows[precision][str(batch)] = row
            tell(precision, batch, row)
            if args.json:
                args.json.write_text(json.dumps(report | {"rows": rows}, indent=2) + "\n", encoding="utf-8")
            if "fits" in row:
                break


if __name__ == "__main__":
    main()
