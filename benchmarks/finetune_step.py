"""Speed and memory of fine-tuning: one step of each kind of task network.

    python benchmarks/finetune_step.py --steps 3 --json finetune_step.json

Base size, batch 1. One step is forward, the task's loss, backward, gradient clipping and AdamW. Each network's ratio
is to the first of its kind: segmentation and heatmaps to ConvUNetR on SAX, pooled ones to ConvViT on ED and ES. The
networks take turns, medians are given, and peak memory is measured in a process of its own per network.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cinema_lightning.losses.landmarks import gaussian_heatmaps, heatmap_loss, wing_loss
from cinema_lightning.losses.segmentation import segmentation_loss
from cinema_lightning.models.baselines import ResNet50, UNet
from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.models.precision import choose_float32
from common import measure_peak, peak_in_own_process, synchronise, take_turns

Loss = Callable[[Tensor, torch.Generator], Tensor]
N_CLASSES, N_LANDMARKS, N_EF_CLASSES = 4, 3, 5


def segmentation(logits: Tensor, generator: torch.Generator) -> Tensor:
    labels = torch.randint(N_CLASSES, (len(logits), *logits.shape[2:]), generator=generator)
    return segmentation_loss(logits, labels.to(logits.device))


def heatmaps(logits: Tensor, generator: torch.Generator) -> Tensor:
    size = logits.shape[2:]
    points = torch.rand(len(logits), N_LANDMARKS, 2, generator=generator) * torch.tensor(size)
    return heatmap_loss(logits, gaussian_heatmaps(points.to(logits.device), size))


def coordinates(output: Tensor, generator: torch.Generator) -> Tensor:
    points = torch.rand(len(output), N_LANDMARKS, 2, generator=generator) * 255
    return wing_loss(output.unflatten(1, (N_LANDMARKS, 2)), points.to(output.device))


def classes(logits: Tensor, generator: torch.Generator) -> Tensor:
    labels = torch.randint(N_EF_CLASSES, (len(logits),), generator=generator)
    return F.cross_entropy(logits.float(), labels.to(logits.device))


@dataclass(frozen=True)
class Kind:
    """One kind of task network.

    Attributes:
        build: Makes the network, given its size.
        view: The view that it sees.
        loss: The task's loss of its output against random truth.
        baseline_of: Name of the kind that its time is compared with.
        channels: Input channels.
    """

    build: Callable[..., nn.Module]
    view: str
    loss: Loss
    baseline_of: str
    channels: int = 1


SAX, POOLED = "ConvUNetR SAX segmentation", "ConvViT SAX ED/ES class"
KINDS = {
    SAX: Kind(partial(ConvUNetR, classes=N_CLASSES), "sax", segmentation, SAX),
    "UNet SAX segmentation": Kind(partial(UNet, classes=N_CLASSES), "sax", segmentation, SAX),
    "ConvUNetR 4CH segmentation": Kind(partial(ConvUNetR, classes=N_CLASSES), "lax_4c", segmentation, SAX),
    "ConvUNetR 4CH heatmaps": Kind(partial(ConvUNetR, classes=N_LANDMARKS), "lax_4c", heatmaps, SAX),
    POOLED: Kind(partial(ConvViT, outputs=N_EF_CLASSES), "sax", classes, POOLED, channels=2),
    "ResNet50 SAX ED/ES class": Kind(partial(ResNet50, outputs=N_EF_CLASSES), "sax", classes, POOLED, channels=2),
    "ConvViT 4CH coordinates": Kind(partial(ConvViT, outputs=2 * N_LANDMARKS), "lax_4c", coordinates, POOLED),
}


def stepper(
    name: str, size: str, device: torch.device, input_size: dict[str, tuple[int, ...]] | None = None, batch: int = 1
) -> Callable[[], float]:
    """Returns a function that takes one step and gives the loss."""
    torch.manual_seed(0)
    kind = KINDS[name]
    model = kind.build([kind.view], input_size=input_size, channels=kind.channels, size=size).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.05, fused=True)
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(batch, kind.channels, *model.input_size[kind.view], generator=generator).to(device)

    def step() -> float:
        output = model({kind.view: image})
        loss = kind.loss(output if isinstance(output, Tensor) else output[kind.view], generator)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        model.zero_grad(set_to_none=True)
        synchronise(device)
        return loss.item()

    return step


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3, help="timed steps per network")
    parser.add_argument("--size", default="base", help="size of the networks")
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--only", nargs="+", choices=list(KINDS), help="networks to measure, all by default")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    parser.add_argument("--no-memory", action="store_true", help="leave the memory measurements out")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    choose_float32(training=True)  # as a training does
    if args.peak:
        print(measure_peak(stepper(args.peak, args.size, device), device))
        return
    names = args.only or list(KINDS)
    measured = [] if args.no_memory else names
    peaks = {name: peak_in_own_process(__file__, name, args.size, args.device, args.threads) for name in measured}
    seconds = take_turns({name: stepper(name, args.size, device) for name in names}, args.steps)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    rows: dict[str, dict[str, float]] = {}
    for name, median in medians.items():
        rows[name] = {"seconds": median, "steps_per_second": 1 / median}
        if KINDS[name].baseline_of in medians:
            rows[name]["ratio"] = median / medians[KINDS[name].baseline_of]
        if name in peaks:
            rows[name]["peak_gb"] = peaks[name]
    print(f"{'network':28} {'s/step':>8} {'steps/s':>8} {'ratio':>7} {'peak GB':>8}  ratio to")
    for name, row in rows.items():
        ratio, peak = (f"{row[key]:.3f}" if key in row else "-" for key in ("ratio", "peak_gb"))
        numbers = f"{row['seconds']:8.2f} {row['steps_per_second']:8.3f} {ratio:>7} {peak:>8}"
        print(f"{name:28} {numbers}  {KINDS[name].baseline_of}")
    if args.json:
        report = {"size": args.size, "device": args.device, "threads": args.threads, "steps": args.steps, "rows": rows}
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
