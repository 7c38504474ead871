"""All backbones behind one interface: any size preset, odd depths, missing views, YAML by name."""

from collections.abc import Callable

import pytest
import torch
from jsonargparse import ArgumentParser

from cinema_lightning.errors import CinemaError
from cinema_lightning.models import BACKBONES
from cinema_lightning.models.backbone import DenseBackbone, PooledBackbone, crop_to, pad_to_multiple
from cinema_lightning.models.baselines import DynUNet, ResNet50, SegResNet, SwinUNETR, UNet, nnunet_plan

SIZE = {"sax": [64, 64, 6], "lax_4c": [64, 64]}
DENSE = ["ConvUNetR", "DynUNet", "SegResNet", "SwinUNETR", "UNet"]
POOLED = ["ConvViT", "ResNet50"]


def build(name, views=("sax", "lax_4c"), channels=2, outputs=3, **options):
    torch.manual_seed(0)
    cls = BACKBONES[name]
    given = {"classes" if issubclass(cls, DenseBackbone) else "outputs": outputs, "size": "tiny", **options}
    return cls(views=list(views), input_size={view: SIZE[view] for view in views}, channels=channels, **given)


def unreached(network):
    return [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]


def test_registry():
    assert sorted(DENSE + POOLED) == list(BACKBONES)
    with pytest.raises(CinemaError, match=r"no backbone called 'Unet'; there are ConvUNetR.*UNet"):
        BACKBONES["Unet"]


@pytest.mark.parametrize(("view", "size"), [("sax", (64, 96, 11)), ("lax_4c", (64, 96))])
@pytest.mark.parametrize("name", DENSE)
def test_dense_forward_and_backward(name, view, size):
    network = build(name, [view])
    size = (64, 64, *size[2:]) if name == "SwinUNETR" else size
    image = torch.rand(1, 2, *size)
    output = network({view: image})[view]
    levels = output if isinstance(output, list) else [output]
    assert isinstance(output, list) == (name == "DynUNet")
    assert all(level.shape == (1, 3, *size) for level in levels)
    sum(level.square().mean() for level in levels).backward()
    assert unreached(network) == []
    network.eval()
    with torch.no_grad():
        assert network({view: image})[view].shape == (1, 3, *size)


@pytest.mark.parametrize(("view", "size"), [("sax", (64, 64, 11)), ("lax_4c", (64, 64))])
@pytest.mark.parametrize("name", POOLED)
def test_pooled_forward_and_backward(name, view, size):
    network = build(name, [view])
    output = network({view: torch.rand(2, 2, *size)})
    assert output.shape == (2, 3)
    output.square().mean().backward()
    assert unreached(network) == []


@pytest.mark.parametrize("name", [name for name in DENSE if name != "SwinUNETR"])
def test_dense_missing_view(name):
    network = build(name).eval()
    images = {"lax_4c": torch.rand(1, 2, 64, 64)}
    with torch.no_grad():
        assert list(network(images)) == ["lax_4c"]
        assert list(network({**images, "sax": torch.rand(1, 2, 64, 64, 3)})) == ["sax", "lax_4c"]


def test_resnet_averages_the_views_present():
    network = build("ResNet50").eval()
    images = {"sax": torch.rand(2, 2, 64, 64, 6), "lax_4c": torch.rand(2, 2, 64, 64)}
    with torch.no_grad():
        parts = [network({view: image}) for view, image in images.items()]
        torch.testing.assert_close(network(images), torch.stack(parts).mean(dim=0))


@pytest.mark.parametrize("name", ["UNet", "DynUNet", "SegResNet", "ResNet50", "ConvViT", "ConvUNetR"])
def test_every_backbone_takes_every_size(name):
    numbers = []
    for size in ("tiny", "mini", "small", "base"):
        with torch.device("meta"):
            numbers.append(sum(p.numel() for p in build(name, ["lax_4c"], size=size).parameters()))
    assert max(numbers[:-1]) < numbers[-1]
    with pytest.raises(CinemaError, match="no network size called 'giant'"):
        build(name, size="giant")


def test_unet_is_the_published_one():
    with torch.device("meta"):
        network = UNet(["sax"]).networks["sax"]
    assert network.stem[0].weight.shape == (32, 1, 3, 3, 3)
    assert [level[1].branch[2].weight.shape[0] for level in network.down_levels] == [32, 64, 128, 256, 512]
    assert all(conv.stride == conv.kernel_size == (2, 2, 1) for conv in (*network.downs, *network.ups))
    assert network.down_levels[0][0].branch[5].p == 0.1
    assert network.head.weight.shape == (4, 32, 1, 1, 1)


def test_nnunet_plan():
    kernels, strides = nnunet_plan([192, 192, 16], [1.0, 1.0, 10.0])
    assert strides == [[1, 1, 1], [2, 2, 1], [2, 2, 1], [2, 2, 1], [2, 2, 2], [2, 2, 2]]
    assert kernels == [[3, 3, 1]] * 3 + [[3, 3, 3]] * 3
    _, strides = nnunet_plan([64, 64, 6], [1.0, 1.0, 10.0])
    assert all(step[2] == 1 for step in strides)
    kernels, strides = nnunet_plan([256, 256], [1.0, 1.0])
    assert len(strides) == len(kernels) == 7
    assert set(map(tuple, kernels)) == {(3, 3)}


def test_dynunet_widths_and_deep_supervision():
    with torch.device("meta"):
        network = DynUNet(["sax"])
    assert network.networks["sax"].filters == [32, 64, 128, 256, 320, 320]
    assert not isinstance(
        build("DynUNet", ["lax_4c"], deep_supervision=False)({"lax_4c": torch.rand(1, 2, 64, 64)})["lax_4c"], list
    )


def test_padding_is_undone():
    image = torch.rand(2, 1, 5, 8, 3)
    padded = pad_to_multiple(image, (4, 4, 2))
    assert padded.shape == (2, 1, 8, 8, 4)
    assert torch.equal(crop_to(padded, image.shape[2:]), image)
    assert padded.count_nonzero() == image.count_nonzero()
    assert pad_to_multiple(image, (5, 2, 1)) is image


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UNet(["sax"], width=12), "multiple of 8"),
        (lambda: UNet(["sax"], levels=1), "at least 2"),
        (lambda: UNet(["sax"], {"lax_4c": [64, 64]}), "not among views"),
        (lambda: SegResNet(["axial"]), "no view called"),
        (lambda: SwinUNETR([], size="tiny"), "different view names"),
        (lambda: DynUNet(["lax_4c"], {"lax_4c": [8, 8]}), "too small"),
        (lambda: UNet(["sax"], {"sax": [16, 16, 1]}), "UNet scales down to a single voxel"),
        (lambda: SwinUNETR(["sax"], {"sax": [32, 32, 6]}), "SwinUNETR scales down to a single voxel"),
        (lambda: ResNet50(["sax"], channels=0), "channels is 0"),
        (lambda: build("UNet")({"lax_2c": torch.rand(1, 2, 64, 64)}), "no weights for view 'lax_2c'"),
        (lambda: build("ResNet50")({"lax_4c": torch.rand(1, 1, 64, 64)}), "1 channels"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(CinemaError, match=message):
        make()


def dense_task(network: Callable[..., DenseBackbone] = UNet):
    return network(views=["sax"], input_size={"sax": [64, 64, 3]}, channels=1, classes=2)


def pooled_task(network: Callable[..., PooledBackbone] = ResNet50):
    return network(views=["lax_4c"], input_size={"lax_4c": [32, 32]}, channels=1, outputs=2)


@pytest.mark.parametrize(("task", "names"), [(dense_task, DENSE), (pooled_task, POOLED)])
def test_yaml_chooses_by_name(task, names):
    BACKBONES.load()
    for name in names:
        parser = ArgumentParser(exit_on_error=False)
        parser.add_function_arguments(task)
        config = parser.parse_object({"network": {"class_path": name, "init_args": {"size": "tiny"}}})
        assert type(task(**parser.instantiate_classes(config))).__name__ == name
