"""No training step waits for the device: a device in the computer's memory that counts what would."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from cinema_lightning.data.augment import noise
from cinema_lightning.data.augment.affine import Affine
from cinema_lightning.data.augment.crop import Crop
from cinema_lightning.data.augment.curve import Curve
from cinema_lightning.data.augment.flip import Flip
from cinema_lightning.data.augment.gamma import Gamma
from cinema_lightning.data.augment.ghost import Ghost
from cinema_lightning.data.augment.hole import Hole
from cinema_lightning.data.augment.mottle import Mottle
from cinema_lightning.data.augment.noise import Noise
from cinema_lightning.data.augment.resolution import Resolution
from cinema_lightning.data.augment.shade import Shade
from cinema_lightning.data.augment.zoom import Zoom
from cinema_lightning.data.transforms import PLAN
from cinema_lightning.losses.landmarks import heatmap_loss, wing_loss
from cinema_lightning.losses.segmentation import segmentation_loss
from cinema_lightning.losses.survival import cox_loss
from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.tasks.classification.data import ClassificationData
from cinema_lightning.tasks.classification.task import Classification
from cinema_lightning.tasks.landmarks.data import LandmarkData
from cinema_lightning.tasks.landmarks.task import LandmarkCoordinate, LandmarkHeatmap
from cinema_lightning.tasks.pretrain.data import PretrainData
from cinema_lightning.tasks.pretrain.task import Pretrain
from cinema_lightning.tasks.regression.data import RegressionData
from cinema_lightning.tasks.regression.task import Regression
from cinema_lightning.tasks.segmentation.data import SegmentationData
from cinema_lightning.tasks.segmentation.task import Segmentation
from cinema_lightning.tasks.survival.data import SurvivalData
from cinema_lightning.tasks.survival.task import Survival


class Backend(backend_registration._DummyBackendModule):
    """What torch asks of a device's module."""

    def get_amp_supported_dtype(self):
        return [torch.bfloat16, torch.float16]

    def manual_seed(self, seed):
        pass

    def is_bf16_supported(self):
        return True


if torch.cuda.is_available():  # autograd and pinned memory know one accelerator besides the CPU
    pytest.skip("a simulated device cannot stand beside a real one", allow_module_level=True)
backend_registration._setup_privateuseone_for_python_backend("simulated", Backend())
DEVICE = torch.device("simulated", 0)
aten = torch.ops.aten
# What reads a value or a size back from the device before the program goes on.
READS = {
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_consecutive.default,
    aten.unique_dim.default,
    aten.repeat_interleave.Tensor,
    aten.bincount.default,
}
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
COPIES = {aten._to_copy.default, aten.copy_.default}


class OnDevice(Tensor):
    """A tensor that claims to be on the simulated device; only :class:`Device` can do anything with it."""

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnDevice:
        return Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner.detach()

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} outside of the device")


class Device(TorchDispatchMode):
    """Computes on the simulated device, refuses mixed devices, and notes what would have to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        here = [isinstance(tensor, OnDevice) for tensor in tensors]
        asked = kwargs.get("device")
        result_here = any(here) if asked is None else torch.device(asked).type == DEVICE.type
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        self._note(func, args, kwargs, tensors, here, result_here)
        out = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
        if not (result_here or any(here)):
            return out
        out = tree_map(lambda leaf: OnDevice(leaf) if isinstance(leaf, Tensor) and result_here else leaf, out)
        return return_and_correct_aliasing(func, args, kwargs, out) if all(here) and here else out

    def _note(self, func, args, kwargs, tensors, here, result_here) -> None:
        if func in COPIES:
            between = {result_here, *here} == {True, False}
            if between and not (result_here and not here[-1] and (kwargs.get("non_blocking") or args[2:] == (True,))):
                self.waits.append(f"copy {func}")
            return
        strange = [t for t, there in zip(tensors, here, strict=True) if any(here) and not there and t.dim()]
        if strange:
            raise RuntimeError(f"{func} mixes devices: a tensor of shape {tuple(strange[0].shape)} is on the host")
        masks = func in INDEXED and any(
            t.dtype in (torch.bool, torch.uint8) for t in tree_leaves(args[1]) if t is not None
        )
        if any(here) and (func in READS or masks):
            self.waits.append(str(func))


def _inner(leaf: Any) -> Any:
    return leaf.inner if isinstance(leaf, OnDevice) else leaf


def move_module(module: nn.Module) -> None:
    """Moves parameters and buffers."""
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                part._parameters[name] = nn.Parameter(OnDevice(value.detach()), value.requires_grad)
        for name, value in part._buffers.items():
            if value is not None:
                part._buffers[name] = OnDevice(value)


@pytest.fixture
def device(monkeypatch):
    """The device, for the time of a test."""
    monkeypatch.setattr(noise, "seeded_noise", lambda shape, seed, device: torch.randn(tuple(shape), device=device))
    return Device()


def test_the_device_counts_what_waits(device):
    with device:
        x = torch.ones(3, 2).to(DEVICE, non_blocking=True)
        assert x.device == DEVICE
        assert (x.sum() * 2).device == DEVICE
        assert not device.waits
        assert float(x.sum()) == 6
        assert bool((x > 0).all())
        x[x > 0]
        torch.ones(2).to(DEVICE)
        x.cpu()
        torch.unique(x)
        assert len(device.waits) == 6
        x[0] = 4
        assert float(x.sum()) == 12
        with pytest.raises(RuntimeError, match="mixes devices"):
            x + torch.ones(3, 2)
        with pytest.raises(RuntimeError):
            x[[0, 1]]  # an index made on the host


SIZES = {"sax": [32, 32, 4], "lax_2c": [64, 64], "lax_3c": [64, 64], "lax_4c": [64, 64]}
GREY = [Curve(1.0), Mottle(1.0), Ghost(1.0), Shade(1.0), Resolution(1.0), Gamma(1.0), Noise(1.0)]
EVERY = [Zoom(1.0), *GREY, Affine(1.0), Flip(1.0), Crop(), Hole(1.0)]
TASKS = {
    "pretrain": (PretrainData, {}, Pretrain, MaskedAutoencoder),
    "segmentation": (SegmentationData, {"views": ["sax", "lax_4c"]}, Segmentation, ConvUNetR),
    "every effect": (SegmentationData, {"views": ["sax", "lax_4c"], "augment": EVERY}, Segmentation, ConvUNetR),
    "classification": (ClassificationData, {"views": ["sax"]}, Classification, ConvViT),
    "regression": (RegressionData, {"views": ["sax", "lax_2c"]}, Regression, ConvViT),
    "survival": (SurvivalData, {"views": ["lax_4c"]}, Survival, ConvViT),
    "heatmap": (LandmarkData, {"views": ["lax_2c", "lax_4c"]}, LandmarkHeatmap, ConvUNetR),
    "coordinate": (LandmarkData, {"views": ["lax_2c"]}, LandmarkCoordinate, ConvViT),
}


def on_device(name, cohort):
    """A task on the device, and its data."""
    data_class, options, task_class, network = TASKS[name]
    views = options.get("views", list(SIZES))
    sizes = {view: SIZES[view] for view in views}
    if task_class is not Pretrain:
        options = options | {"dataset": "phantom", "test_fraction": 0.1}
    data = data_class(str(cohort), batch_size=2, num_workers=0, input_size=sizes, seed=1, val_fraction=0.2, **options)
    data.setup("fit")
    torch.manual_seed(0)
    task = task_class(spec=data.spec, network=lambda **known: network(**known, size="tiny", drop_path=0.2))
    task.train()
    return data, task


@pytest.mark.parametrize("name", TASKS)
def test_a_training_step_waits_for_nothing_but_whether_it_is_finite(name, phantom_cohort, device, monkeypatch):
    data, task = on_device(name, phantom_cohort)
    logged: dict[str, Any] = {}
    monkeypatch.setattr(task, "log", lambda key, value, **options: logged.update({key: value}))
    data.trainer = SimpleNamespace(training=True, lightning_module=task, world_size=1, global_rank=0)
    batches = list(data.train_dataloader())
    assert len(batches) > 1
    assert all(PLAN in batch for batch in batches)
    assert ("sax_visible" in batches[0]) == (name == "pretrain")
    with device:
        move_module(task)
    task._device = DEVICE
    task._trainer = SimpleNamespace(world_size=1, accumulate_grad_batches=1, global_step=0, global_rank=0)
    parameters = [p for p in task.parameters() if p.requires_grad]
    optimizer = SimpleNamespace(param_groups=[{"params": parameters}])
    with device, sdpa_kernel(SDPBackend.MATH):
        for batch in batches[:2]:
            batch = data.on_before_batch_transfer(batch, 0)
            batch = data.on_after_batch_transfer(move_data_to_device(batch, DEVICE), 0)
            assert device.waits == []
            loss = task.training_step(batch, 0)
            loss.backward()
            assert device.waits == []
            task.configure_gradient_clipping(optimizer, 1.0)
            assert len(device.waits) == 1
            device.waits.clear()
            for parameter in parameters:
                assert parameter.grad is not None
                parameter.grad = None
        if name == "pretrain":  # of a loader that knows no task
            bare = {k: v for k, v in batch.items() if not k.endswith(("_mask", "_visible", "_masked"))}
            again = task.masks(bare, task.images(bare))
            assert all(torch.equal(again[v].mask.inner, batch[f"{v}_mask"].inner) for v in SIZES)
            assert device.waits == []
    assert loss.device == DEVICE
    assert torch.isfinite(loss.inner)
    assert all(isinstance(value, Tensor) for value in logged.values()), "a number would have to be copied to the device"
    assert "train/grad_norm" in logged


def test_no_loss_waits(device):
    with device:
        logits = torch.randn(2, 4, 8, 8, device=DEVICE, requires_grad=True)
        labels = (torch.rand(2, 8, 8, device=DEVICE) * 5).long() - 1
        maps, valid = torch.rand(2, 4, 8, 8, device=DEVICE), torch.rand(2, 4, device=DEVICE) > 0.5
        points = torch.rand(2, 3, 2, device=DEVICE)
        time, event = (torch.rand(8, device=DEVICE) * 3).ceil(), torch.rand(8, device=DEVICE) > 0.5
        risk = torch.randn(8, device=DEVICE, requires_grad=True)
        losses = [
            segmentation_loss(logits, labels),
            heatmap_loss(logits, maps, valid),
            wing_loss(points, points, valid[:, :3]),
            cox_loss(risk, time, event)[0],
        ]
        torch.stack(losses).sum().backward()
        assert device.waits == []


def test_single_batches_are_whole_on_the_device(phantom_cohort, tmp_path, device):
    """As pictures of the worst cases ask for them, of studies without label maps too."""
    root = tmp_path / "cohort"
    shutil.copytree(phantom_cohort, root)
    data, _ = on_device("segmentation", root)
    study, frame = str(data.cohort.ids[0]), int(data.samples("train")[1][0])
    for view in ("sax", "lax_4c"):
        (root / study / f"{view}_label.b2nd").unlink()
    with device:
        (batch,) = data.batches_of([(study, frame)], DEVICE)
        assert bool((batch["sax_label"] == 255).all())
        assert not bool(batch["sax_labelled"].any())
