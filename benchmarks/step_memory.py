"""What a training step takes, and so how many samples a GPU holds, counted without computing anything.

    python benchmarks/step_memory.py --gb 24 --json step_memory.json

Forward, loss and backward go through fake tensors, which have shapes and no numbers; what they would allocate and free
is added up (:mod:`cinema_lightning.models.memory`), gradients included. To that come weights and AdamW's two moments,
12 bytes a parameter in float32, and a gigabyte for the CUDA context and the libraries. The memory is not filled to the
last: one tenth is left for fragmentation.

With ``--device cuda`` the steps are also taken there, AdamW's included, with one sample and with as many as were
counted to fit, in float32 and under bf16; the process then gets no more memory than --gb less that gigabyte.
"""

from __future__ import annotations

import argparse
import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from cinema_lightning.losses.segmentation import cross_entropy
from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.models.memory import Peak
from cinema_lightning.models.patches import Selection
from cinema_lightning.models.precision import choose_float32
from cinema_lightning.views import VIEWS

CONTEXT_GB, FILLED = 1.0, 0.9


Call = Callable[..., Any]
Step = tuple[nn.Module, Callable[[Call], Tensor]]
"""A network, and the loss of a call of it."""


def segmentation(slices: int, **options: bool) -> Callable[[int], Step]:
    """ConvUNetR on SAX stacks of so many slices, or on 4CH planes where there are none."""

    def make(batch: int) -> Step:
        view = "sax" if slices else "lax_4c"
        model = ConvUNetR([view], **options)
        shape = (*model.input_size[view][:2], *([slices] if slices else []))

        def loss(call: Call) -> Tensor:
            labels = torch.zeros(batch, *shape, dtype=torch.long)
            logits = call({view: torch.zeros(batch, 1, *shape)})[view]
            # in the place of the Dice loss, which asks for a value: as many maps of the classes
            return cross_entropy(logits, labels) + (logits.softmax(dim=1) * (labels[:, None] > 0)).mean()

        return model, loss

    return make


def pooled(batch: int) -> Step:
    """ConvViT on SAX at ED and ES."""
    model = ConvViT(["sax"], channels=2)
    return model, lambda call: call({"sax": torch.zeros(batch, 2, *model.input_size["sax"])}).square().mean()


def pretraining(batch: int) -> Step:
    """The autoencoder on all views, three quarters masked."""
    model = MaskedAutoencoder(list(VIEWS))

    def loss(call: Call) -> Tensor:
        images = {view: torch.zeros(batch, 1, *VIEWS[view].input_size) for view in VIEWS}
        chosen = {}
        for view in VIEWS:
            n, seen = model.n_patches(view), model.n_visible(view)
            numbers = torch.arange(n).expand(batch, n)
            chosen[view] = Selection(numbers >= seen, numbers[:, :seen], numbers[:, seen:])
        total: Tensor = call(images, chosen).loss
        return total

    return model, loss


TASKS = {
    **{
        f"ConvUNetR, SAX of {n} slices{said}": segmentation(n, **options)
        for n in (16, 11, 9)
        for said, options in (
            ("", {}),
            (", checkpoint_decoder", {"checkpoint_decoder": True}),
            (", checkpointing", {"checkpointing": True}),
        )
    },
    "ConvUNetR, 4CH": segmentation(0),
    "ConvViT, SAX at ED and ES, 16 slices": pooled,
    "pretraining, four views, SAX of 16 slices": pretraining,
}


def step_bytes(make: Callable[[int], Step], batch: int) -> tuple[int, int]:
    """Parameters, and most bytes at a time beside weights and moments."""
    model, loss = make(batch)
    model.train()
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        parameters = {name: fake.from_tensor(value.detach()) for name, value in model.named_parameters()}
        trained = [parameters[name] for name, value in model.named_parameters() if value.requires_grad]
        for value in trained:
            value.requires_grad_()
        buffers = {name: fake.from_tensor(value) for name, value in model.named_buffers()}
        with Peak([*parameters.values(), *buffers.values()]) as peak:
            total = loss(lambda *given: torch.func.functional_call(model, parameters | buffers, given))
            torch.autograd.grad(total, trained, allow_unused=True)
    return sum(value.numel() for value in trained), peak.most


def measured(make: Callable[[int], Step], batch: int, device: torch.device, bf16: bool) -> dict[str, float | bool]:
    """Takes three steps on a GPU; gives the most that was allocated and reserved, GB, or that it does not fit."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    try:
        model, loss = make(batch)
        model.to(device).train()
        with device:  # where the loss makes its images
            optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
            for _ in range(3):
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    total = loss(model)
                total.backward()
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
        torch.cuda.synchronize(device)
    except torch.OutOfMemoryError:
        return {"fits": False}
    return {
        "fits": True,
        "allocated_gb": torch.cuda.max_memory_allocated(device) / 1e9,
        "reserved_gb": torch.cuda.max_memory_reserved(device) / 1e9,
    }


def measure(name: str, batch: int, device: torch.device) -> dict[str, dict[str, float | bool]]:
    """What was measured of a task, by precision and number of samples."""
    found = {}
    for precision in ("float32", "bf16"):
        for samples in (1, batch):
            gc.collect()
            row = measured(TASKS[name], samples, device, precision == "bf16")
            found[f"{precision}, {samples}"] = row
            figures = [f"{row[key]:.2f} GB {key.removesuffix('_gb')}" for key in row if key != "fits"]
            said = ", ".join(figures) or "too many"
            print(f"    measured, {precision}, {samples} samples: {said}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gb", type=float, default=24, help="memory of the GPU, 1e9 bytes")
    parser.add_argument("--only", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cuda: measure what was counted, too")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    args = parser.parse_args()
    device = torch.device(args.device)
    choose_float32(training=True)  # as a training does
    if device.type == "cuda":
        whole = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min((args.gb - CONTEXT_GB) * 1e9 / whole, 1.0))
    rows: dict[str, dict[str, Any]] = {}
    print(f"{'task':48} {'M weights':>9} {'GB at 1':>8} {'a sample':>8} {'batch':>6}")
    for name in args.only:
        (parameters, one), (_, two) = (step_bytes(TASKS[name], batch) for batch in (1, 2))
        fixed = 12 * parameters / 1e9  # weights and moments; gradients are in the peak
        each, rest = (two - one) / 1e9, FILLED * args.gb - CONTEXT_GB - fixed
        batch = int((rest - one / 1e9) / each) + 1 if rest > one / 1e9 else 0
        rows[name] = {"parameters": parameters, "gb": fixed + one / 1e9, "gb_each": each, "batch": batch}
        print(f"{name:48} {parameters / 1e6:9.0f} {fixed + one / 1e9:8.2f} {each:8.2f} {batch:6d}", flush=True)
        if device.type == "cuda" and batch:
            rows[name]["measured"] = measure(name, batch, device)
        if args.json:
            args.json.write_text(json.dumps({"gb": args.gb, "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
