"""Fine-tuned tasks from inside: what learns, where it starts, and the losses' promises."""

from __future__ import annotations

import warnings

import pytest
import torch
from safetensors.torch import save_file

from cinema_lightning.errors import CinemaError
from cinema_lightning.metrics.segmentation import case_metrics, class_regions
from cinema_lightning.models.baselines import ResNet50
from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.convvit import ConvViT
from cinema_lightning.models.lora import LoraLinear
from cinema_lightning.models.mae import MaskedAutoencoder
from cinema_lightning.models.unet import ResidualUNet
from cinema_lightning.tasks.classification.task import REPEAT, Classification, Correlation, Separation
from cinema_lightning.tasks.downstream import Lora, by_own_size, mean_over_views
from cinema_lightning.tasks.landmarks.task import LandmarkCoordinate, LandmarkHeatmap
from cinema_lightning.tasks.regression.task import Regression
from cinema_lightning.tasks.segmentation.task import Segmentation, batch_dice
from cinema_lightning.tasks.survival.task import Concordance, Survival
from cinema_lightning.weights.files import save_published
from cinema_lightning.weights.layout import to_published

SIZE = {"sax": [32, 32, 4], "lax_4c": [64, 64]}


def spec(kind: str, views=("sax",), channels: int = 1, **more):
    sizes = {view: SIZE[view] for view in views}
    return {"views": list(views), "input_size": sizes, "channels": channels, "kind": kind, "dataset": "acdc"} | {
        "spacing_known": True,
        **more,
    }


CLASSES = {"classes": ["background", "RV blood pool", "myocardium", "LV blood pool"], "label_codes": [0, 1, 2, 3]}


def tiny(cls):
    return lambda **arguments: cls(**arguments, size="tiny")


def segmentation(**options):
    torch.manual_seed(0)
    return Segmentation(spec("segmentation", **CLASSES), network=tiny(ConvUNetR), **options)


def pooled_batch(n: int, channels: int = 2, **more):
    generator = torch.Generator().manual_seed(1)
    return {
        "id": [str(i) for i in range(n)],
        "frame": torch.zeros(n, dtype=torch.long),
        "weight": torch.ones(n),
        "sax": torch.rand(n, channels, *SIZE["sax"], generator=generator),
        "sax_size": torch.tensor([SIZE["sax"]] * n),
        **more,
    }


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Published weights of a small autoencoder."""
    path = tmp_path_factory.mktemp("weights") / "cinema.safetensors"
    torch.manual_seed(3)
    save_published(MaskedAutoencoder(["sax"], input_size={"sax": SIZE["sax"]}, size="tiny"), path)
    return str(path)


def test_weights_start_the_encoder_and_low_layers_learn_slowly(pretrained):
    task = segmentation(weights=pretrained, layer_decay=0.5)
    assert task.report.loaded
    assert not task.report.complete
    rates = {len(group["params"]): group["lr"] for group in task.parameter_groups()}
    assert max(rates.values()) == task.optim.lr
    assert min(rates.values()) < task.optim.lr
    stem = next(p for name, p in task.network.named_parameters() if "stems" in name)
    head = next(task.network.head_modules()[0].parameters())
    rate = {id(p): group["lr"] for group in task.parameter_groups() for p in group["params"]}
    blocks = len(task.network.encoder.transformer.blocks) if hasattr(task.network.encoder, "transformer") else None
    assert rate[id(stem)] < rate[id(head)]
    if blocks:
        assert rate[id(stem)] == pytest.approx(task.optim.lr * 0.5 ** (blocks + 1))
    assert all("lr" not in group for group in segmentation(layer_decay=0.5).parameter_groups()), (
        "from scratch: one rate"
    )


def test_weights_of_another_voxel_size_are_worth_a_word(pretrained):
    facts = {"target": "x", "class_counts": [3, 1], "classes": ["a", "b"]}

    def started(size):
        return Classification(
            spec("classification", **facts, spacing={"sax": size}), network=tiny(ConvViT), weights=pretrained
        )

    with pytest.warns(UserWarning, match="SAX images of 3 x 3 x 10 mm, but the network was trained at 1 x 1 x 10 mm"):
        started([3.0, 3.0, 10.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        started([1.0, 1.0, 10.0])
        started(None)


def test_a_linear_probe_trains_heads_only(pretrained):
    task = Classification(
        spec("classification", classes=["a", "b"], target="x", class_counts=[3, 1]),
        network=tiny(ConvViT),
        weights=pretrained,
        freeze="backbone",
    )
    trained = {name for name, p in task.network.named_parameters() if p.requires_grad}
    assert trained
    assert all(name.startswith("heads.") for name in trained)


def test_lora_trains_adapters_and_heads(pretrained):
    task = segmentation(weights=pretrained, lora=Lora(rank=2))
    assert any(isinstance(module, LoraLinear) for module in task.network.modules())
    frozen = [name for name, p in task.network.named_parameters() if not p.requires_grad]
    assert any("qkv" in name or "stems" in name for name in frozen)
    with pytest.raises(CinemaError, match="freeze"):
        segmentation(lora=Lora(), freeze="backbone")


def test_heads_of_another_question_are_not_taken(pretrained, tmp_path):
    def diagnosis(classes, weights=None):
        facts = {"classes": classes, "target": "pathology", "class_counts": [1] * len(classes)}
        return Classification(spec("classification", **facts), network=tiny(ConvViT), weights=weights)

    source = diagnosis(["DCM", "HCM", "NOR"])
    path = tmp_path / "best.ckpt"
    state = {f"network.{key}": value for key, value in source.network.state_dict().items()}
    torch.save({"state_dict": state, "hyper_parameters": {"spec": source.spec}}, path)
    same, other = diagnosis(["DCM", "HCM", "NOR"], str(path)), diagnosis(["DCM", "NOR", "HCM"], str(path))
    weight = source.network.heads["sax"].weight
    assert torch.equal(same.network.heads["sax"].weight, weight)
    assert not torch.equal(other.network.heads["sax"].weight, weight)
    assert torch.equal(other.network.encoder.cls_token, source.network.encoder.cls_token)
    assert "4 tensors: their heads are for DCM, HCM, NOR, not for DCM, NOR, HCM" in str(other.report)
    assert "heads 4" in str(other.report).split("Initial values kept")[1]


def test_published_segmentation_files_keep_their_heads(tmp_path):
    network = segmentation().network
    path = tmp_path / "finetuned" / "segmentation" / "acdc_sax" / "acdc_sax_0.safetensors"
    path.parent.mkdir(parents=True)
    save_file({key: value.contiguous() for key, value in to_published(network).items()}, path)
    report = segmentation(weights=str(path)).report
    assert report.complete
    assert not report.left_out


def test_heads_of_cnns_are_heads(tmp_path):
    def answer(target, classes, weights=None):
        facts = {"classes": classes, "target": target, "class_counts": [1] * len(classes)}
        return Classification(spec("classification", channels=2, **facts), network=tiny(ResNet50), weights=weights)

    source = answer("sex", ["F", "M"])
    path = tmp_path / "best.ckpt"
    state = {f"network.{key}": value for key, value in source.network.state_dict().items()}
    torch.save({"state_dict": state, "hyper_parameters": {"spec": source.spec}}, path)
    for other in (answer("vendor", ["A", "B"], str(path)), answer("vendor", ["A", "B", "C"], str(path))):
        assert "their heads are for sex, not for vendor" in str(other.report)
        assert "Initial values kept: 2 tensors (heads 2)" in str(other.report)
        mine, theirs = other.network.state_dict(), source.network.state_dict()
        same = {key for key in mine if mine[key].shape == theirs[key].shape and torch.equal(mine[key], theirs[key])}
        assert mine.keys() - same == {"networks.sax.fc.weight", "networks.sax.fc.bias"}
    assert answer("sex", ["F", "M"], str(path)).report.complete


@pytest.mark.parametrize("network", [ConvViT, ResNet50])
def test_outputs_are_float32_in_autocast(network):
    task = Regression(spec("regression", channels=2, mean=0.0, std=1.0, target="lv_ef"), network=tiny(network)).eval()
    batch = pooled_batch(4)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        found = task.network({"sax": batch["sax"]})
    assert found.dtype == torch.float32
    assert not torch.equal(found, found.bfloat16().float())


def test_a_frozen_backbone_of_random_weights_is_worth_a_word(pretrained):
    for options in ({"freeze": "backbone"}, {"lora": Lora(rank=2)}):
        with pytest.warns(UserWarning, match=rf"init_args.{next(iter(options))} freezes a backbone of random weights"):
            segmentation(**options).setup("fit")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segmentation(weights=pretrained, freeze="backbone").setup("test")


def test_the_data_has_to_be_of_the_tasks_kind():
    with pytest.raises(CinemaError, match=r"learns segmentation, but the data is for regression"):
        Segmentation(spec("regression", mean=0.0, std=1.0, target="lv_ef"))


def test_balanced_weights_average_to_one_over_the_training_set():
    counts = [30, 10, 20]
    options = {"classes": ["a", "b", "c"], "target": "x", "class_counts": counts}
    task = Classification(spec("classification", **options), network=tiny(ConvViT), class_weights="balanced")
    weights = task.class_weights
    assert (weights * torch.tensor(counts)).sum() / sum(counts) == pytest.approx(1)
    assert weights[1] / weights[0] == pytest.approx(3)
    with pytest.raises(CinemaError, match="one number above 0 for each class"):
        Classification(spec("classification", **options), network=tiny(ConvViT), class_weights=[1.0, 2.0])


def test_regression_restores_the_unit():
    task = Regression(spec("regression", channels=2, target="lv_ef", mean=50.0, std=10.0), network=tiny(ConvViT)).eval()
    batch = pooled_batch(2, label=torch.tensor([0.0, 1.5]))
    output = task.infer(batch)
    cases = task.cases(batch, output)
    assert [row["true"] for row in cases] == pytest.approx([50, 65])
    assert [row["predicted"] for row in cases] == pytest.approx([row["predicted"] for row in task.rows(batch, output)])


def test_batch_dice_equals_the_cases_own():
    generator = torch.Generator().manual_seed(0)
    predicted = torch.randint(0, 4, (3, 8, 8, 3), generator=generator)
    true = torch.randint(0, 4, (3, 8, 8, 3), generator=generator)
    true[1][true[1] == 2] = 0
    found = batch_dice(predicted, true, [[1], [2], [3]], score_absent=False)
    regions = class_regions({0: "background", 1: "a", 2: "b", 3: "c"})
    for i in range(3):
        own = case_metrics(predicted[i].numpy(), true[i].numpy(), [1, 1, 1], regions)
        expected = torch.tensor([own["a_dice"], own["b_dice"], own["c_dice"]])
        torch.testing.assert_close(found[i], expected.float(), equal_nan=True)
    assert found[1, 1].isnan()
    assert batch_dice(predicted * 0, true * 0, [[1]], score_absent=True).tolist() == [[1.0]] * 3
    ignored = torch.full_like(true, 255)
    assert batch_dice(predicted, ignored, [[1]], score_absent=False).isnan().all()


def test_a_case_does_not_depend_on_its_companions():
    task = segmentation().eval()
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 1, 32, 32, 9, generator=generator)
    image[0, ..., 5:] = 0
    batch = {"id": ["a", "b"], "sax": image, "sax_size": torch.tensor([[32, 32, 5], [32, 32, 9]])}
    both = task.infer(batch).probabilities["sax"]
    alone = {"id": ["a"], "sax": image[:1, ..., :5], "sax_size": batch["sax_size"][:1]}
    alone = task.infer(alone).probabilities["sax"]
    torch.testing.assert_close(both[:1, ..., :5], alone)
    parts = by_own_size(batch, {"sax": image}, SIZE)
    assert [places for places, _ in parts] == [[0], [1]]


def test_chunks_of_a_risk_set_give_the_gradient_of_the_whole():
    torch.manual_seed(0)
    options = {"network": lambda **a: ConvViT(**a, size="tiny", drop_path=0.0)}
    task = Survival(spec("survival", channels=2, n_events=3), **options)
    images = {"sax": pooled_batch(5)["sax"]}
    gradients = []
    for chunk in (None, 2):
        task.chunk = chunk
        task.zero_grad()
        (task._scores(images) ** 2).sum().backward()
        gradients.append([p.grad.clone() for p in task.network.parameters() if p.grad is not None])
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-6)


def test_chunks_average_batch_statistics_once():
    task = Survival(spec("survival", channels=2, n_events=3), network=tiny(ResNet50), chunk=3)
    images = {"sax": pooled_batch(6)["sax"]}
    norm = next(part for part in task.network.modules() if isinstance(part, torch.nn.BatchNorm3d))
    scores = task._scores(images)
    before = norm.running_mean.clone()
    scores.sum().backward()
    assert before.abs().sum() > 0
    assert torch.equal(norm.running_mean, before), "the backward pass computes the chunks again"
    assert norm.momentum == 0.1


def test_auroc_leaves_absent_classes_and_repeats_out():
    metric = Separation()
    scores = torch.tensor([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0]])
    metric.update(scores, torch.tensor([0, 0, 1, REPEAT]))
    assert metric.compute() == 1
    metric.reset()
    metric.update(scores[:2], torch.tensor([0, 0]))
    assert metric.compute().isnan()


def test_concordance_is_lifelines_own():
    from lifelines.utils import concordance_index

    metric = Concordance()
    risk, time, event = torch.rand(30), torch.rand(30), (torch.rand(30) > 0.5).float()
    for part in (slice(0, 10), slice(10, 30)):
        metric.update(risk[part], time[part], event[part])
    assert metric.compute().item() == pytest.approx(concordance_index(time, -risk, event))


def test_coordinates_are_shares_of_the_input():
    task = LandmarkCoordinate(spec("landmarks", views=("lax_4c",), landmarks=["a", "b", "c"]), network=tiny(ConvViT))
    task.eval()
    batch = {"id": ["1"], "lax_4c": torch.rand(1, 1, 64, 64), "lax_4c_size": torch.tensor([[64, 64]])}
    points = task.infer(batch)["lax_4c"]
    shares = task.network({"lax_4c": batch["lax_4c"]}).reshape(1, 3, 2)
    torch.testing.assert_close(points, shares * 64)
    with pytest.raises(CinemaError, match="three landmarks in one view"):
        LandmarkCoordinate(spec("landmarks", views=("lax_4c",), landmarks=["a", "b"]), network=tiny(ConvViT))


def test_coordinates_of_a_larger_image_are_those_of_its_middle():
    task = LandmarkCoordinate(spec("landmarks", views=("lax_4c",), landmarks=["a", "b", "c"]), network=tiny(ConvViT))
    task.eval()
    alone = {"id": ["1"], "lax_4c": torch.rand(1, 1, 64, 64), "lax_4c_size": torch.tensor([[64, 50]])}
    image = torch.rand(2, 1, 96, 70)
    image[0, :, 16:80, 3:67] = alone["lax_4c"]
    image[1, :, :, 64:] = 0  # padding
    image[1, :, 64:] = 0
    sizes = torch.tensor([[96, 70], [64, 50]])
    points = task.infer({"id": ["1", "2"], "lax_4c": image, "lax_4c_size": sizes})["lax_4c"]
    torch.testing.assert_close(points[0], task.infer(alone)["lax_4c"][0] + torch.tensor([16.0, 3.0]))
    second = alone | {"lax_4c": image[1:, :, :64, :64]}
    torch.testing.assert_close(points[1], task.infer(second)["lax_4c"][0])


def test_unmarked_landmarks_leave_heatmap_loss_alone():
    task = LandmarkHeatmap(spec("landmarks", views=("lax_4c",), landmarks=["a", "b"]), network=tiny(ConvUNetR)).eval()
    batch = {
        "id": ["1", "2"],
        "lax_4c": torch.rand(2, 1, 64, 64),
        "lax_4c_points": torch.tensor([[[5.0, 6.0], [0.0, 0.0]], [[20.0, 30.0], [40.0, 50.0]]]),
        "lax_4c_points_valid": torch.tensor([[True, False], [True, True]]),
    }
    logits = torch.randn(2, 2, 64, 64)
    loss = task._heatmap_loss(batch, "lax_4c", logits)
    moved = batch | {"lax_4c_points": batch["lax_4c_points"].clone()}
    moved["lax_4c_points"][0, 1] = 33.0
    assert task._heatmap_loss(moved, "lax_4c", logits) == loss


@pytest.mark.parametrize(
    ("guess", "label", "mcc"),
    [
        ([1, 1, 0], [1, 1, 1], float("nan")),  # 0 would pass for a network that is no better than chance
        ([1, 1, 1], [1, 1, 1], float("nan")),
        ([1, 1, 1], [1, 0, 1], 0.0),
        ([1, 0, 2, 0], [1, 0, 2, 1], 0.7),
    ],
)
def test_the_mcc_of_one_class_is_not_defined(guess, label, mcc):
    metric = Correlation(3)
    metric.update(torch.eye(3)[guess], torch.tensor(label))
    assert metric.compute().item() == pytest.approx(mcc, abs=0.05, nan_ok=True)


def test_any_dense_backbone_fits():
    from cinema_lightning.models.baselines import UNet

    task = Segmentation(spec("segmentation", **CLASSES), network=tiny(UNet))
    assert any(isinstance(module, ResidualUNet) for module in task.network.modules())


def test_a_view_without_truth_does_not_count():
    losses = {"sax": torch.tensor(2.0, requires_grad=True), "lax_4c": torch.tensor(0.0, requires_grad=True)}
    known = {"sax": torch.tensor([True, False]), "lax_4c": torch.tensor([False, False])}
    assert mean_over_views(losses, known).item() == 2.0
    nothing = mean_over_views(losses, {view: torch.tensor([False]) for view in losses})
    nothing.backward()
    assert nothing.item() == 0
    assert losses["sax"].grad.item() == 0
