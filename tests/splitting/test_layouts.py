import pytest
import torch

from frostline.splitting.layouts import Layout, find_layout, from_rows


def at_sizes(make, small: int = 2, large: int = 4):
    """The layout of what `make` gives for the first samples of one batch, at two sizes."""
    x = torch.randn(large, 3, 6, 6)
    return find_layout(make(x[:small]), make(x), small, large)


@pytest.mark.parametrize(
    ("make", "layout"),
    [
        (lambda x: x.clone(), Layout(0)),
        (lambda x: x.transpose(0, 2).contiguous(), Layout(2)),
        (lambda x: x.flatten(0, 1), Layout(0, 3, True)),
        (lambda x: x.transpose(0, 1).flatten(0, 1), Layout(0, 3, False)),
        (lambda x: x.contiguous(memory_format=torch.channels_last), Layout(0, order=(0, 2, 3, 1))),
        (lambda x: torch.ones(5), Layout(None)),
    ],
    ids=["plain", "third axis", "sample by sample", "head by head", "channels last", "shared"],
)
def test_how_a_tensor_follows_the_batch_is_found(make, layout):
    assert at_sizes(make) == layout


@pytest.mark.parametrize(
    "make",
    [lambda x: x[:1].squeeze(0) if len(x) == 2 else x, lambda x: x.flatten(1) @ x.flatten(1).t(), lambda x: x[1:]],
    ids=["another number of axes", "two axes", "not a multiple"],
)
def test_what_follows_the_batch_in_no_single_axis_is_none(make):
    assert at_sizes(make) is None


def test_only_the_model_s_own_rows_are_stored_as_they_are():
    assert Layout(0).is_plain
    assert Layout(None).is_plain
    assert not Layout(1).is_plain
    assert not Layout(0, 2).is_plain
    assert not Layout(0, order=(1, 0)).is_plain


def test_rows_of_a_folded_batch_belong_to_their_samples():
    x = torch.arange(6).view(3, 2)  # sample b holds 2b and 2b + 1
    assert Layout(0, 2, True).to_rows(x.flatten()).tolist() == x.tolist()
    assert Layout(0, 2, False).to_rows(x.t().flatten()).tolist() == x.tolist()
    assert from_rows(x, Layout(0, 2, False)).tolist() == [0, 2, 4, 1, 3, 5]
