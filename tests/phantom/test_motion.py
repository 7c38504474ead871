import numpy as np
import pytest

from cinema_lightning.phantom.motion import Ventricles, emptying
from cinema_lightning.phantom.subject import draw_subject

FIVE = [draw_subject(3, index) for index in range(5)]


def by_pathology(name):
    return next(s for s in (draw_subject(3, i) for i in range(5)) if s.pathology == name)


def wall_volume(v, phase):
    s = (np.arange(300) + 0.5)[:, None] / 300
    theta = np.linspace(0, 2 * np.pi, 256, endpoint=False)
    inner, outer = v.lv(s * v.length * phase.stretch, theta, phase)
    return np.pi * np.mean(outer**2 - np.clip(inner, 0, None) ** 2) * v.length * phase.stretch / 1000


def test_curve_has_systole_early_and_late_filling():
    t = np.linspace(0, 1, 401)
    y = emptying(t, 0.36, 0.7)
    assert y[0] == 0
    assert y.max() == pytest.approx(1)
    assert abs(t[np.argmax(y)] - 0.36) < 0.06
    assert y.min() >= 0
    rate = -np.gradient(y, t)
    early, middle, late = rate[(t > 0.4) & (t < 0.6)].max(), rate[(t > 0.74) & (t < 0.8)].max(), rate[t > 0.82].max()
    assert early > late > 2 * middle
    assert y[-2] < 0.01


@pytest.mark.parametrize("subject", FIVE, ids=lambda s: s.pathology)
def test_volumes_follow_the_curve(subject):
    v = Ventricles(subject)
    ed, es = v.at(0.0), v.at(subject.es_phase)
    assert v.volumes(ed) == pytest.approx((subject.lv_edv, subject.rv_edv), rel=1e-6)
    lv, rv = v.volumes(es)
    assert 1 - lv / subject.lv_edv == pytest.approx(subject.lv_ef, rel=1e-6)
    assert 1 - rv / subject.rv_edv == pytest.approx(subject.rv_ef, rel=1e-6)


@pytest.mark.parametrize("subject", FIVE, ids=lambda s: s.pathology)
def test_myocardium_is_conserved_and_thickens(subject):
    v = Ventricles(subject)
    phases = [v.at(t) for t in np.linspace(0, 0.95, 12)]
    volumes = [wall_volume(v, phase) for phase in phases]
    assert np.ptp(volumes) / np.mean(volumes) < 0.01
    ed, es = v.at(0.0), v.at(subject.es_phase)
    theta = np.linspace(0, 2 * np.pi, 64, endpoint=False)

    def thickness(p):
        inner, outer = v.lv(np.array([[0.55 * v.length * p.stretch]]), theta, p)
        return np.mean(outer - inner)

    assert thickness(es) > thickness(ed) * (1.05 if subject.lv_ef < 0.4 else 1.2)
    assert es.stretch < 1
    assert es.rv_top < ed.rv_top


def test_an_infarct_moves_less_than_the_rest():
    subject = by_pathology("MINF")
    v, scar = Ventricles(subject), subject.scar
    ed, es = v.at(0.0), v.at(subject.es_phase)
    level = (scar.low + min(scar.high, 1)) / 2
    theta = np.array([scar.angle, scar.angle + np.pi])
    before = v.lv(np.array([[level * v.length]]), theta, ed)[0][0]
    after = v.lv(np.array([[level * v.length * es.stretch]]), theta, es)[0][0]
    inward = (before - after) / before
    assert inward[0] < 0.5 * inward[1]


def test_hypertrophy_is_asymmetric():
    subject = by_pathology("HCM")
    v = Ventricles(subject)
    wall = v.wall0(np.array([[0.55]]), np.array([subject.bulge_angle, subject.bulge_angle + np.pi]))[0]
    assert wall[0] > 15
    assert wall[0] > 1.3 * wall[1]
