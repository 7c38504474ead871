"""What `cinema test` prints of the headline figures."""

from __future__ import annotations

from cinema_lightning.output import test as cases


def test_undefined_cases_are_counted_and_undefined_figures_named(monkeypatch, tmp_path):
    said: list[str] = []
    monkeypatch.setattr(cases, "rank_zero_info", said.append)
    known = {"metric": "mean_dice", "display": "Mean Dice", "value": 0.9, "low": None, "high": None, "unit": None}
    rows = [
        known | {"n": 8, "n_missing": 2, "n_subjects": 4},
        known
        | {"metric": "mean_hd95", "display": "HD95", "unit": "mm", "low": 0.8, "high": 1.0, "n": 10, "n_missing": 0},
        known | {"metric": "c_index", "display": "C-index", "value": None, "n": 0, "n_missing": 10},
    ]
    cases._say(rows, {"kind": "segmentation"}, tmp_path, "C-index: not defined, none of the 10 studies has an event")
    lines = [" ".join(line.split()) for line in said[0].splitlines()]
    assert lines[:2] == ["Mean Dice 0.9 (not defined in 2 of 10)", "HD95 0.9 [0.8, 1] mm"]
    assert lines[2] == "C-index: not defined, none of the 10 studies has an event."
    assert lines[3] == "segmentation: Mean Dice 0.9, 4 subjects"
    assert lines[4].startswith(f"Results: {tmp_path}")
    assert len(lines) == 5
