import pytest
import torch
from torch import nn

from frostline.diagnosis.probes.directions import spread_of_directions

ROWS = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))


class Given(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, rows):
        return self.function(rows)


@pytest.mark.parametrize(
    ("function", "least", "most"),
    [
        (lambda rows: rows, 0.9, 1.0),
        (lambda rows: torch.ones(len(rows), 6) * rows[:, :1].exp(), 0.0, 1e-3),  # of other lengths, and one direction
        (lambda rows: {"z": rows + 100}, 0.0, 0.02),
    ],
)
def test_rows_that_point_apart_and_the_same_way(function, least, most):
    assert least <= spread_of_directions(Given(function), ROWS) <= most


@pytest.mark.parametrize("function", [lambda rows: rows[:, :1], lambda rows: rows.sum(), lambda rows: rows * torch.nan])
def test_where_directions_say_nothing_there_are_none(function):
    assert spread_of_directions(Given(function), ROWS) is None


@pytest.mark.parametrize("rows", [ROWS[:4], ROWS[:1].expand(16, -1)])
def test_few_rows_and_rows_that_are_all_the_same_are_not_asked(rows):
    assert spread_of_directions(Given(lambda given: given), rows) is None
