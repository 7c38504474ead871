"""What a step and a prediction cost by the number of slices of a short-axis stack, through networks made for 16.

    python benchmarks/depth.py --json depth.json

A pretraining step (four views, 75% masked; forward, backward, clipping, AdamW) and the dense prediction of one stack,
base size, batch 1. The depths take turns, and medians of core seconds are given,
with their ratio to 16 slices.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.views import VIEWS
from common import clock, take_turns

DEPTHS = (6, 9, 11, 16)
SAX = "sax"


def image_of(view: str, depth: int) -> Tensor:
    """Noise of the view's usual size, a stack with some slices."""
    size = VIEWS[view].input_size
    size = (*size[:2], depth) if len(size) == 3 else size
    return torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0))


def pretraining(size: str) -> Callable[[int], Callable[[], object]]:
    """Depth -> a function that takes a step."""
    torch.manual_seed(0)
    model = MaskedAutoencoder(list(VIEWS), size=size)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def at(depth: int) -> Callable[[], object]:
        images = {view: image_of(view, depth) for view in VIEWS}
        hidden = {}
        for view, image in images.items():
            patches = zip(image.shape[2:], VIEWS[view].patch_size, strict=True)
            n = torch.Size([pixels // patch for pixels, patch in patches]).numel()
            hidden[view] = torch.rand(1, n, generator=torch.Generator().manual_seed(0)).argsort(dim=1) >= n // 4
        chosen = model.encoder.selections(images, hidden)

        def step() -> None:
            model(images, chosen).loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            model.zero_grad(set_to_none=True)

        return step

    return at


def prediction(size: str) -> Callable[[int], Callable[[], object]]:
    """Depth -> a function that predicts a stack."""
    torch.manual_seed(0)
    model = ConvUNetR([SAX], size=size).eval().requires_grad_(False)

    def at(depth: int) -> Callable[[], object]:
        image = image_of(SAX, depth)

        def predict() -> object:
            with torch.no_grad():
                return model({SAX: image})

        return predict

    return at


WORK = {"pretraining step": pretraining, "dense prediction": prediction}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depths", type=int, nargs="+", default=list(DEPTHS), help="slices")
    parser.add_argument("--turns", type=int, default=1, help="timed runs of each depth")
    parser.add_argument("--size", default="base", help="size of the networks")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for name, make in WORK.items():
        at = make(args.size)
        runs = {str(depth): at(depth) for depth in args.depths}
        found = take_turns(runs, args.turns, clock(cpu_time=True))
        seconds = {depth: statistics.median(values) for depth, values in found.items()}
        deepest = seconds[str(max(args.depths))]
        rows[name] = {depth: {"core_seconds": s, "ratio": s / deepest} for depth, s in seconds.items()}
        for depth, row in rows[name].items():
            print(f"{name:18} {depth:>3} slices {row['core_seconds']:8.2f} core s {row['ratio']:6.2f}", flush=True)
    if args.json:
        report = {"size": args.size, "threads": args.threads, "turns": args.turns, "rows": rows}
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
