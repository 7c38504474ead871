"""Time and memory of one pretraining step: the published dense computation against this package.

    python benchmarks/pretrain_step.py --steps 5 --json pretrain_step.json

Base size, batch 1 (or --batch), four views, 75% masked. With --depth N the short axis has N slices, which our variants
compute and the reference pads to 16, as published. One step is forward, backward, gradient clipping and AdamW. The
variants take turns (A B C A B C ...) after two warm-ups each, and medians are compared, because a busy machine's speed
swings from minute to minute. Peak memory is measured in a process of its own per variant, with AdamW and without it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import common
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.models.precision import choose_float32, has_fast_bf16
from cinema_lightning.views import VIEWS
from cinema_lightning.weights.layout import to_published
from reference_mae import ReferenceMae

REFERENCE = "reference dense float32"
NAMES = (REFERENCE, "dense float32", "visible-only float32", "reference dense bf16-mixed", "visible-only bf16-mixed")
WARM_UPS = 2
DEPTH = VIEWS["sax"].input_size[2]


def reference_of(model: MaskedAutoencoder, enc: tuple[int, int, int], dec: tuple[int, int, int]) -> ReferenceMae:
    """Builds the reference with the weights of a model of the same sizes."""
    geometries = model.encoder.geometries
    reference = ReferenceMae(
        {view: g.grid for view, g in geometries.items()},
        {view: g.kernels for view, g in geometries.items()},
        model.encoder.channels,
        model.encoder.conv_channels,
        model.encoder.conv_blocks,
        enc,
        dec,
    )
    reference.load_state_dict(to_published(model))
    return reference


def build(name: str, size: str, device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    model = MaskedAutoencoder(list(VIEWS), size=size, sparse_stem=name.startswith("visible-only"))
    if not name.startswith("reference"):
        return model.to(device)
    attn = model.encoder.transformer.blocks[0].attn.heads, model.decoder.blocks[0].attn.heads
    enc = (model.decoder_embed.in_features, len(model.encoder.transformer.blocks), attn[0])
    dec = (model.decoder_embed.out_features, len(model.decoder.blocks), attn[1])
    return reference_of(model, enc, dec).to(device)


def inputs(
    model_views: list[str], device: torch.device, batch: int, depth: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    images, masks = {}, {}
    for view in model_views:
        info = VIEWS[view]
        size = (*info.input_size[:2], *(depth for _ in info.input_size[2:]))
        images[view] = torch.rand(batch, 1, *size, generator=generator).to(device)
        n = torch.Size([s // p for s, p in zip(size, info.patch_size, strict=True)]).numel()
        masks[view] = (torch.rand(batch, n, generator=generator).argsort(dim=1) >= n // 4).to(device)
    return images, masks


def stepper(
    name: str, size: str, device: torch.device, optimise: bool = True, batch: int = 1, depth: int = DEPTH
) -> Callable[[], float]:
    """Returns a function that runs one step and gives the loss."""
    model = build(name, size, device)
    images, masks = inputs(list(VIEWS), device, batch, DEPTH if name.startswith("reference") else depth)
    if isinstance(model, MaskedAutoencoder):  # which patches are hidden is known before a batch reaches the device
        masks = model.encoder.selections(images, masks)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.05, fused=True) if optimise else None

    def step() -> float:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled="bf16" in name):
            output = model(images, masks)
        loss = output[0] if isinstance(output, tuple) else output.loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if optimiser is not None:
            optimiser.step()
        model.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return loss.item()

    return step


def time_variants(names: list[str], args: argparse.Namespace, device: torch.device) -> dict[str, list[float]]:
    run = {name: stepper(name, args.size, device, batch=args.batch, depth=args.depth) for name in names}
    clock = common.clock(args.cpu_time)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(WARM_UPS + args.steps):
        for name in names:
            start = clock()
            run[name]()
            if turn >= WARM_UPS:
                seconds[name].append(clock() - start)
    return seconds


def measure_peak(args: argparse.Namespace, device: torch.device) -> float:
    """Peak memory of two steps in this process, GB (1e9 bytes): resident on a CPU, allocated on a GPU."""
    return common.measure_peak(stepper(args.peak, args.size, device, not args.no_optimiser, depth=args.depth), device)


def peak_in_own_process(name: str, args: argparse.Namespace, optimise: bool) -> float:
    command = [sys.executable, __file__, "--peak", name, "--size", args.size, "--device", args.device]
    command += ["--threads", str(args.threads), "--depth", str(args.depth), *([] if optimise else ["--no-optimiser"])]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(result.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5, help="timed steps per variant")
    parser.add_argument("--size", default="base", help="size of the network")
    parser.add_argument("--batch", type=int, default=1, help="samples; memory is measured with one")
    parser.add_argument("--depth", type=int, default=DEPTH, help="slices of the short axis; the reference pads them")
    parser.add_argument(
        "--cpu_time", action="store_true", help="count core seconds, on a busy machine with --threads 1"
    )
    parser.add_argument("--device", default="cpu", help="torch device")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    parser.add_argument("--no-memory", action="store_true", help="leave the memory measurements out")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--no-optimiser", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    choose_float32(training=True)  # as a training does
    if args.peak:
        print(measure_peak(args, device))
        return
    names = list(NAMES)
    if not has_fast_bf16(device):
        names = [name for name in names if "bf16" not in name]
        print(f"bf16-mixed is left out: this {device.type} device has no bf16 instructions, it would crawl.")
    rows = {}
    # Before the timing, while this process is small: a child's peak starts at its parent's size on Linux.
    peaks = {
        name: {
            "peak_gb": peak_in_own_process(name, args, optimise=False),
            "peak_gb_with_adamw": peak_in_own_process(name, args, optimise=True),
        }
        for name in ([] if args.no_memory else names)
    }
    seconds = time_variants(names, args, device)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name in names:
        rows[name] = {
            "seconds": medians[name],
            "ratio": medians[name] / medians[REFERENCE],
            "ratio_to_own_dense": medians[name] / medians["dense float32"],
            **peaks.get(name, {}),
        }
    print(f"{'variant':26} {'s/step':>8} {'ratio':>7} {'to own dense':>13} {'peak GB':>8} {'with AdamW':>11}")
    for name, row in rows.items():
        memory = [f"{row.get(key, float('nan')):.2f}" for key in ("peak_gb", "peak_gb_with_adamw")]
        print(
            f"{name:26} {row['seconds']:8.2f} {row['ratio']:7.3f} {row['ratio_to_own_dense']:13.3f} "
            f"{memory[0]:>8} {memory[1]:>11}"
        )
    if args.json:
        options = {name: getattr(args, name) for name in ("size", "device", "threads", "batch", "steps", "depth")}
        report = options | {"rows": rows}
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
