import numpy as np
import pytest

from cinema_lightning.phantom.motion import Ventricles
from cinema_lightning.phantom.subject import PATHOLOGIES, draw_subject

COHORT = [draw_subject(11, index) for index in range(200)]


def of(pathology, sex=None):
    return [s for s in COHORT if s.pathology == pathology and sex in (None, s.sex)]


def inside(values, low, high):
    assert len(values) > 5
    assert low <= min(values), min(values)
    assert max(values) <= high, max(values)


@pytest.mark.parametrize(("sex", "lv", "rv"), [("M", (106, 214), (118, 250)), ("F", (86, 178), (77, 201))])
def test_normal_volumes_lie_in_the_reference_ranges(sex, lv, rv):
    normal = of("NOR", sex)
    inside([s.lv_edv for s in normal], *lv)
    inside([s.rv_edv for s in normal], *rv)
    inside([s.lv_ef for s in normal], 0.57, 0.77)
    inside([s.rv_ef for s in normal], 0.45, 0.70)


def test_pathologies_have_their_signs():
    inside([s.lv_edv for s in of("DCM")], 180, 365)
    inside([s.lv_ef for s in of("DCM")], 0.15, 0.40)
    inside([s.lv_ef for s in of("HCM")], 0.60, 0.80)
    inside([s.lv_ef for s in of("MINF")], 0.25, 0.50)
    inside([s.rv_ef for s in of("ARV")], 0.15, 0.45)
    inside([s.rv_edv for s in of("ARV")], 175, 375)
    assert all((s.scar is not None) == (s.pathology == "MINF") for s in COHORT)


def test_wall_and_mass_lie_in_clinical_ranges():
    walls = {p: [Ventricles(s).wall_thickness for s in of(p)] for p in PATHOLOGIES}
    inside(walls["NOR"], 6, 11.5)
    inside(walls["HCM"], 15, 32)
    inside(walls["DCM"], 5.5, 11)
    mass = [Ventricles(s).lv_mass / s.bsa for s in of("NOR")]
    assert 45 < np.mean(mass) < 80
    inside(mass, 35, 95)


def test_sexes_differ_and_bodies_are_plausible():
    edv = {sex: np.mean([s.lv_edv for s in of("NOR", sex)]) for sex in "MF"}
    assert edv["M"] > edv["F"] + 15
    inside([s.bmi for s in COHORT], 17.5, 42.5)
    inside([s.age for s in COHORT], 20, 84)


def test_a_subject_depends_on_seed_and_index_only():
    assert draw_subject(11, 7) == COHORT[7]
    assert draw_subject(12, 7) != COHORT[7]
    assert len({s.lv_edv for s in COHORT}) == len(COHORT)


def test_split_is_70_10_20_and_stratified():
    splits = np.array([s.split for s in COHORT])
    for ten in splits.reshape(-1, 10):
        assert (np.sum(ten == "train"), np.sum(ten == "val"), np.sum(ten == "test")) == (7, 1, 2)
    for pathology in PATHOLOGIES:
        mine = [s.split for s in COHORT[:50] if s.pathology == pathology]
        assert sorted(mine) == ["test"] * 2 + ["train"] * 7 + ["val"]
