"""Heads that were trained on one frozen encoder share it, and nothing else does."""

from __future__ import annotations

import copy

import pytest
import torch

from cinema_lightning.models.convunetr import ConvUNetR
from cinema_lightning.models.encoder import MultiViewEncoder
from cinema_lightning.models.sharing import encoding_once, share_encoders

SIZE = {"sax": [32, 32, 3]}


def network(seed, size=SIZE):
    torch.manual_seed(seed)
    return ConvUNetR(["sax"], size, size="tiny").eval()


def probe(of, seed):
    """Another decoder on a copy of a network's encoder."""
    other = network(seed)
    other.encoder.load_state_dict(copy.deepcopy(of.encoder.state_dict()))
    return other


@pytest.fixture
def passes(monkeypatch):
    seen = []
    forward = MultiViewEncoder.forward
    monkeypatch.setattr(MultiViewEncoder, "forward", lambda self, *given: seen.append(self) or forward(self, *given))
    return seen


def test_a_common_encoder_sees_each_image_once(passes):
    first = network(0)
    networks = [first, probe(first, 1), network(2), probe(first, 3)]
    images = [{"sax": torch.rand(1, 1, 32, 32, 3)} for _ in range(2)]
    with torch.no_grad():
        wanted = [[one(image)["sax"] for one in networks] for image in images]
        passes.clear()
        shared = share_encoders(networks)
        assert shared == [first.encoder]
        with encoding_once(shared):
            found = [[one({"sax": image["sax"].clone()})["sax"] for one in networks] for image in images]
        assert len(passes) == 4, "twice by the common one, twice by the other"
        first(images[0])
    assert len(passes) == 5, "outside it is computed again"
    assert all(torch.equal(*pair) for image in zip(found, wanted, strict=True) for pair in zip(*image, strict=True))


def test_encoders_of_other_heads_are_not_shared_though_their_weights_are_the_same():
    first, other = (ConvUNetR(["sax"], SIZE, size="tiny", enc_heads=heads).eval() for heads in (1, 2))
    other.load_state_dict(first.state_dict())
    assert share_encoders([first, other]) == []


def test_encoders_that_differ_in_a_number_or_a_size_are_not_shared():
    first, other = network(0), probe(network(0), 1)
    with torch.no_grad():
        other.encoder.cls_token[0, 0, 0] += 1e-6
    assert share_encoders([first, other, network(0, {"sax": [64, 32, 3]})]) == []
    assert first.encoder is not other.encoder
