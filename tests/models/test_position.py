"""Position tables."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cinema_lightning.models.position import PositionTable, interpolate_table, sincos_table

GOLDEN = Path(os.environ.get("CINEMA_GOLDEN", Path(__file__).parents[1] / "golden"))


@pytest.mark.parametrize(
    ("dim", "grid", "step"),
    [(20, (2, 3, 2), 1), (32, (3, 5, 2), 1), (32, (4, 6), 1), (96, (12, 12, 16), 97)],
)
def test_golden_tables(dim, grid, step):
    name = f"pos_embed.dim{dim}.grid{'x'.join(map(str, grid))}"
    golden = load_file(GOLDEN / "misc" / "tensors.safetensors")[name]
    torch.testing.assert_close(sincos_table(grid, dim)[:, ::step], golden, rtol=0, atol=1e-6)


def test_first_block_encodes_the_second_axis():
    table = sincos_table((3, 3), 8).reshape(3, 3, 8)
    assert torch.equal(table[0, :, :4], table[2, :, :4])
    assert torch.equal(table[:, 0, 4:], table[:, 2, 4:])
    assert not torch.equal(table[0, 0, :4], table[0, 1, :4])


def test_leftover_channels_are_zero():
    table = sincos_table((2, 2, 2), 20)
    assert (table[..., 18:] == 0).all()


def test_own_grid_is_returned_as_it_is():
    position = PositionTable((4, 4), 8)
    assert position((4, 4)) is position.table
    assert position((2, 6)).shape == (1, 12, 8)
    assert not list(position.parameters())
    assert list(position.state_dict()) == ["table"]


def test_fewer_slices_take_the_first_entries_and_more_are_interpolated():
    position = PositionTable((4, 4, 6), 12)
    table = position.table.unflatten(1, (4, 4, 6))
    assert torch.equal(position((4, 4, 3)), table[:, :, :, :3].flatten(1, 3))
    wider = interpolate_table(position.table, (4, 4, 6), (5, 3, 6)).unflatten(1, (5, 3, 6))
    torch.testing.assert_close(position((5, 3, 2)), wider[:, :, :, :2].flatten(1, 3))
    assert torch.equal(position((4, 4, 9)), interpolate_table(position.table, (4, 4, 6), (4, 4, 9)))


@pytest.mark.parametrize("grid", [(4, 4), (4, 4, 2)])
def test_interpolation_keeps_constants_and_axis_order(grid):
    constant = torch.full((1, torch.Size(grid).numel(), 3), 2.5)
    wider = (6, *grid[1:])
    torch.testing.assert_close(
        interpolate_table(constant, grid, wider), torch.full((1, torch.Size(wider).numel(), 3), 2.5)
    )
    ramp = torch.arange(grid[0]).float().reshape(-1, *[1] * (len(grid) - 1)).expand(grid).reshape(1, -1, 1)
    result = interpolate_table(ramp, grid, wider).reshape(wider)
    assert (result.diff(dim=0) > 0).all()
    torch.testing.assert_close(result.select(1, 0), result.select(1, 1))


def test_meta_device():
    with torch.device("meta"):
        assert PositionTable((4, 4), 8).table.is_meta
