"""Which way a GPU likes best to do the depth-wise 5 x 5 x 5 convolutions of the stems; all give the same numbers.

    python benchmarks/depthwise.py --device cuda --json depthwise.json

The maps are those of a base-size short-axis stem, (B, X, Y, Z, C) in memory as the stems keep them; one run is forward
and backward. The ways take turns after two warm-ups each, and medians are compared to the one in use, which is
"channels-last" (`cinema_lightning.models.blocks.DepthwiseConv`).
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from common import median_ratio, synchronise, take_turns

KERNEL = 5
STAGES = {"stage 1": (48, 48, 16, 64), "stage 2": (24, 24, 16, 128)}
IN_USE = "channels-last"


def channels_last(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(B, X, Y, Z, C) as it lies in memory."""
    out = F.conv3d(maps.movedim(-1, 1), weight, bias, padding=KERNEL // 2, groups=len(weight))
    return out.movedim(1, -1)


def channels_first(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same on a copy with the channels first, which the library's own depth-wise kernels are written for."""
    out = F.conv3d(maps.movedim(-1, 1).contiguous(), weight, bias, padding=KERNEL // 2, groups=len(weight))
    return out.movedim(1, -1).contiguous()


def depth_taps(maps: Tensor, weight: Tensor, bias: Tensor, *, last: bool) -> Tensor:
    """One 2D convolution of all slices for each slice of the kernel, shifted along z and summed."""
    batch, width, height, depth, channels = maps.shape
    slices = maps.permute(0, 3, 4, 1, 2).reshape(batch * depth, channels, width, height)
    slices = slices.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    out = bias.view(1, 1, -1, 1, 1).expand(batch, depth, channels, width, height)
    for tap in range(KERNEL):
        shift = tap - KERNEL // 2
        plane = F.conv2d(slices, weight[..., tap], padding=KERNEL // 2, groups=channels)
        plane = plane.view(batch, depth, channels, width, height)
        lost = plane[:, max(shift, 0) : depth + min(shift, 0)]
        out = out + F.pad(lost, (0, 0, 0, 0, 0, 0, max(-shift, 0), max(shift, 0)))
    return out.permute(0, 3, 4, 1, 2).contiguous()


WAYS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    IN_USE: channels_last,
    "channels-first": channels_first,
    "2D per depth tap, channels-last": partial(depth_taps, last=True),
    "2D per depth tap, channels-first": partial(depth_taps, last=False),
}


def parts(shape: tuple[int, ...], batch: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(batch, *shape, generator=generator)
    weight = torch.randn(shape[-1], 1, KERNEL, KERNEL, KERNEL, generator=generator) / KERNEL**1.5
    bias = torch.randn(shape[-1], generator=generator)
    maps, weight, bias = (part.to(device).requires_grad_() for part in (maps, weight, bias))
    return maps, weight, bias


def step(name: str, inputs: tuple[Tensor, Tensor, Tensor], device: torch.device) -> None:
    out = WAYS[name](*inputs)
    torch.autograd.grad(out.sum(), inputs)
    synchronise(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument("--batch", type=int, default=1, help="samples")
    parser.add_argument("--turns", type=int, default=3, help="timed runs of each way")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    torch.backends.cudnn.benchmark = True
    rows: dict[str, dict[str, dict[str, float]]] = {}
    print(f"{'maps':10} {'way':34} {'ms':>9} {'ratio':>7}")
    for stage, shape in STAGES.items():
        inputs = parts(shape, args.batch, device)
        seconds = take_turns({name: partial(step, name, inputs, device) for name in WAYS}, args.turns)
        rows[stage] = {
            name: {"seconds": statistics.median(times), "ratio": median_ratio(times, seconds[IN_USE])}
            for name, times in seconds.items()
        }
        for name, row in rows[stage].items():
            print(f"{stage:10} {name:34} {1000 * row['seconds']:9.2f} {row['ratio']:7.3f}")
    if args.json:
        report = {"device": args.device, "batch": args.batch, "turns": args.turns, "rows": rows}
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
