"""What simple readers find in features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cinema_lightning.metrics.probe import _ridge, probe_classes, probe_number


@pytest.fixture
def features():
    return np.random.default_rng(0).normal(size=(200, 12))


def test_a_number_that_is_there_is_found(features):
    value = 3 * features[:, 0] - features[:, 4] + 50
    found = probe_number(features[:150], value[:150], features[150:], value[150:])
    assert found["linear"] == pytest.approx(1, abs=1e-3)
    assert 0.3 < found["knn"] < 0.95


def test_a_number_that_is_not_there_is_not_found(features):
    value = np.random.default_rng(1).normal(size=200)
    found = probe_number(features[:150], value[:150], features[150:], value[150:])
    assert -0.3 < found["linear"] < 0.15
    assert -0.4 < found["knn"] < 0.15


def test_more_features_than_subjects_are_no_trouble():
    wide = np.random.default_rng(2).normal(size=(60, 500))
    value = np.random.default_rng(3).normal(size=60)
    assert probe_number(wide[:40], value[:40], wide[40:], value[40:])["linear"] < 0.2


def test_ridge_solves_the_normal_equations(features, monkeypatch):
    monkeypatch.setattr("cinema_lightning.metrics.probe._PENALTIES", np.array([2.0]))
    value = features[:, :1] + 0.1
    x, y = torch.tensor(features), torch.tensor(value - value.mean())
    weights = torch.linalg.solve(x.T @ x + 2 * torch.eye(12, dtype=x.dtype), x.T @ y).numpy()
    np.testing.assert_allclose(_ridge(features, value, features), features @ weights + value.mean(), rtol=1e-8)


def test_classes_are_judged_by_balanced_accuracy(features):
    kinds = np.where(features[:, 1] > 0.8, "rare", "usual")
    found = probe_classes(features[:150], kinds[:150], features[150:], kinds[150:])
    assert 0.6 < found["linear"] <= 1
    same = np.array(["usual"] * 200)
    assert probe_classes(features[:150], same[:150], features[150:], same[150:]) == {"linear": 1.0, "knn": 1.0}


def test_a_number_that_does_not_vary_has_no_figure(features):
    assert np.isnan(probe_number(features[:9], np.arange(9.0), features[9:12], np.ones(3))["linear"])
