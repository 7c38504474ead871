"""Signal of every tissue by sequence.

Values are relative to blood in a balanced steady-state cine (1.0). Fat is negative there: with TE near TR / 2 fat and
water are of opposite phase, so that they cancel in voxels that hold both. That gives the thin dark lines between fat
and muscle of real cine images, once the magnitude is taken. Ratios of the cine table were read off public cine images
(ACDC, M&Ms-2); those of late gadolinium and T2 follow the usual look of nulled myocardium and of black blood.
"""

from __future__ import annotations

CINE = {
    "air": 0.0,
    "fat": -0.82,
    "skin": 0.3,
    "muscle": 0.2,
    "bone": 0.14,
    "marrow": -0.35,
    "lung": 0.05,
    "vessel": 0.75,
    "mediastinum": -0.55,
    "liver": 0.27,
    "spleen": 0.5,
    "stomach": 0.42,
    "fluid": 1.1,
    "cord": 0.4,
    "myocardium": 0.28,
    "scar": 0.3,
    "edema": 0.31,
    "no_reflow": 0.26,
    "rv_wall": 0.22,
    "atrial_wall": 0.2,
    "blood": 1.0,
    "rv_blood": 0.94,
    "atrial_blood": 0.95,
    "valve": 0.3,
}
LGE = CINE | {
    "fat": 0.85,
    "marrow": 0.5,
    "mediastinum": 0.7,
    "muscle": 0.18,
    "liver": 0.3,
    "spleen": 0.3,
    "stomach": 0.15,
    "fluid": 0.1,
    "myocardium": 0.06,
    "rv_wall": 0.1,
    "scar": 1.05,
    "edema": 0.14,
    "no_reflow": 0.08,
    "blood": 0.6,
    "rv_blood": 0.58,
    "atrial_blood": 0.58,
    "vessel": 0.5,
}
T2 = CINE | {
    "fat": 0.25,
    "marrow": 0.2,
    "mediastinum": 0.22,
    "muscle": 0.35,
    "liver": 0.3,
    "spleen": 0.9,
    "stomach": 0.5,
    "fluid": 1.2,
    "myocardium": 0.5,
    "rv_wall": 0.42,
    "scar": 0.62,
    "edema": 0.95,
    "no_reflow": 0.55,
    "blood": 0.12,
    "rv_blood": 0.14,
    "atrial_blood": 0.14,
    "vessel": 0.12,
}
CONTRASTS = {"cine": CINE, "lge": LGE, "t2": T2}
