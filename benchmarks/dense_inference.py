"""Time and memory of dense prediction: the published channels-first computation against this package.

    python benchmarks/dense_inference.py --pairs 7 --json dense_inference.json

One 192 x 192 x 16 volume through ConvUNetR at base size, batch 1, evaluation mode, no gradient. With --depth N it has N
slices, which our variants compute and the reference pads to 16, as published (masks are then not the same). The
variants take turns after two warm-ups each, and medians are compared. "Plain" is this package's network without the
shortcuts that it takes where no gradient is wanted (sums in place, pixel-wise MLPs piece by piece, the image's constant
branch), so that the ratio to it shows what they bring beside the channels-last layout. All must give the same masks.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.precision import has_fast_bf16
from cinema_lightning.views import VIEWS
from common import clock, measure_peak, median_ratio, peak_in_own_process, synchronise, take_turns
from reference_convunetr import reference_of

REFERENCE = "reference channels-first float32"
PLAIN = "ours plain float32"
OURS = "ours float32"
BF16 = "ours bf16"
NAMES = (REFERENCE, PLAIN, OURS, BF16)
VIEW = "sax"
DEPTH = VIEWS[VIEW].input_size[2]


def predictor(name: str, size: str, device: torch.device, depth: int) -> Callable[[], Tensor]:
    """Returns a function that predicts one volume and gives the logits."""
    torch.manual_seed(0)
    model = ConvUNetR([VIEW], size=size).eval()
    shape = (*model.input_size[VIEW][:2], DEPTH if name == REFERENCE else depth)
    network = reference_of(model).eval() if name == REFERENCE else model
    network.requires_grad_(False).to(device)
    image = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0)).to(device)

    def predict() -> Tensor:
        with torch.set_grad_enabled(name == PLAIN), torch.autocast(device.type, torch.bfloat16, enabled=name == BF16):
            logits = network({VIEW: image})[VIEW]
        synchronise(device)
        return logits

    return predict


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5, help="timed runs per variant")
    parser.add_argument("--size", default="base", help="size of the network")
    parser.add_argument("--depth", type=int, default=DEPTH, help="slices of the volume; the reference pads them")
    parser.add_argument(
        "--cpu_time", action="store_true", help="count core seconds, on a busy machine with --threads 1"
    )
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    parser.add_argument("--no-memory", action="store_true", help="leave the memory measurements out")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    if args.peak:
        print(measure_peak(predictor(args.peak, args.size, device, args.depth), device))
        return
    names = list(NAMES)
    if not has_fast_bf16(device):
        names.remove(BF16)
        print(f"bf16 is left out: this {device.type} device has no bf16 instructions, it would crawl.")
    measured = [] if args.no_memory else names
    common = (args.size, args.device, args.threads, "--depth", str(args.depth))
    peaks = {name: peak_in_own_process(__file__, name, *common) for name in measured}
    runs = {name: predictor(name, args.size, device, args.depth) for name in names}
    masks = {name: run().argmax(dim=1) for name, run in runs.items()}
    seconds = take_turns(runs, args.pairs, clock(args.cpu_time))
    rows = {
        name: {
            "seconds": statistics.median(seconds[name]),
            "ratio": median_ratio(seconds[name], seconds[REFERENCE]),
            "ratio_to_own_plain": median_ratio(seconds[name], seconds[PLAIN]),
            "ratio_of_fastest": min(seconds[name]) / min(seconds[REFERENCE]),
            **({"voxels_equal": _equal(masks[name], masks[REFERENCE])} if args.depth == DEPTH else {}),
            **({"peak_gb": peaks[name]} if name in peaks else {}),
        }
        for name in names
    }
    heads = f"{'s/volume':>8} {'ratio':>7} {'to own plain':>13} {'fastest':>8} {'peak GB':>8} {'equal voxels':>13}"
    print(f"{'variant':34} {heads}")
    for name, row in rows.items():
        peak = f"{row['peak_gb']:.2f}" if "peak_gb" in row else "-"
        equal = f"{row['voxels_equal']:.7f}" if "voxels_equal" in row else "-"
        print(
            f"{name:34} {row['seconds']:8.2f} {row['ratio']:7.3f} {row['ratio_to_own_plain']:13.3f} "
            f"{row['ratio_of_fastest']:8.3f} {peak:>8} {equal:>13}"
        )
    if args.json:
        report = {name: getattr(args, name) for name in ("size", "device", "threads", "pairs", "depth")} | {
            "rows": rows
        }
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _equal(masks: Tensor, others: Tensor) -> float:
    return (masks == others).double().mean().item()


if __name__ == "__main__":
    main()
