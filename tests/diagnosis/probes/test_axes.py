import pytest
import torch
from torch import nn
from torch.nn import functional as F

from frostline.diagnosis.probes.axes import facts_of_axes

INPUTS_BTC = torch.randn(12, 5, 3)


class Runs(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, inputs):
        return self.function(inputs)


@pytest.mark.parametrize(
    "function",
    [lambda x: x.view(12, 3, 5), lambda x: x.reshape(len(x), x.shape[2], -1), lambda x: torch.reshape(x, (12, 3, 5))],
)
def test_a_reshape_for_a_transpose_is_found(function):
    assert facts_of_axes(Runs(function), INPUTS_BTC).exchanged == (((12, 5, 3), (12, 3, 5)),)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.transpose(1, 2), lambda x: x.permute(0, 2, 1), lambda x: x.view(12, 15), lambda x: x.flatten(1),
        lambda x: x.view(12, 5, 3, 1),
        lambda x: x[:, :3, :3].reshape(12, 3, 3), lambda x: x[:, :, :1].reshape(-1, 1, 5),
    ],
)  # fmt: skip
def test_other_shapes_are_no_exchange(function):
    assert facts_of_axes(Runs(function), INPUTS_BTC).exchanged == ()


@pytest.mark.parametrize(
    ("before", "after"),
    [((4, 2, 10, 8), (4, 10, 16)), ((4, 10, 16), (4, 2, 10, 8)), ((2, 12, 8), (12, 16)), ((12, 5, 1, 3), (12, 3, 5))],
)
def test_a_transpose_is_missing_before_heads_or_layers_are_joined(before, after):
    found = facts_of_axes(Runs(lambda x: x.reshape(after)), torch.randn(before))
    assert found.exchanged == ((before, after),)


@pytest.mark.parametrize(
    ("before", "after"),
    [((4, 10, 16), (4, 10, 2, 8)), ((4, 10, 2, 8), (40, 16)), ((4, 3, 8, 8), (4, 3, 2, 4, 2, 4)),
     ((6, 10, 4), (12, 5, 4)), ((4, 4, 8), (4, 32)), ((12, 5, 3), (6, 2, 15))],
)  # fmt: skip
def test_what_is_joined_split_or_cut_into_pieces_keeps_its_order(before, after):
    assert facts_of_axes(Runs(lambda x: x.reshape(after)), torch.randn(before)).exchanged == ()


def test_a_softmax_over_the_samples_or_over_one_value_is_found():
    assert facts_of_axes(Runs(lambda x: x.softmax(0)), INPUTS_BTC).over_samples == ("softmax over axis 0",)
    assert facts_of_axes(Runs(lambda x: x.softmax(dim=-1)), INPUTS_BTC).over_samples == ()
    assert facts_of_axes(nn.Softmax(dim=0), INPUTS_BTC).over_samples == ("softmax over axis 0",)
    one = facts_of_axes(Runs(lambda x: x[:, :, :1].softmax(2)), INPUTS_BTC)
    assert (one.of_one, one.over_samples) == (((12, 5, 1),), ())


@pytest.mark.parametrize("is_first", [True, False])
def test_layers_that_take_samples_for_steps_are_found(is_first):
    model = nn.Sequential(nn.GRU(3, 4, batch_first=is_first))
    found = facts_of_axes(model, INPUTS_BTC).over_samples
    assert found == (() if is_first else ("layer '0' (GRU, without batch_first)",))


def test_steps_before_samples_are_no_fault_and_the_model_is_left_as_it_is():
    class StepsFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.recurrent = nn.LSTM(3, 4)

        def forward(self, inputs):
            return self.recurrent(inputs.transpose(0, 1))[0]

    model = StepsFirst().train()
    assert facts_of_axes(model, INPUTS_BTC).over_samples == ()
    assert model.training
    assert not model.recurrent._forward_pre_hooks


@pytest.mark.parametrize(
    ("reads", "is_found"),
    [(lambda o: o.reshape(-1, 3), True), (lambda o: o.view(-1, 3), True),
     (lambda o: o.permute(0, 2, 3, 1).reshape(-1, 3), False), (lambda o: o.flatten(2).transpose(1, 2), False)],
)  # fmt: skip
def test_a_loss_that_reads_places_as_classes_is_found(reads, is_found):
    def loss_fn(output, target):
        rows = reads(output)
        return nn.functional.cross_entropy(rows.reshape(-1, rows.shape[-1]), target.reshape(-1))

    images, classes = torch.randn(4, 3, 6, 7), torch.randint(3, (4, 6, 7))
    facts = facts_of_axes(Runs(lambda x: x * 2), images, classes, loss_fn)
    assert facts.scattered == ((((4, 3, 6, 7), (168, 3)),) if is_found else ())


def test_rows_that_output_and_target_share_are_no_fault():
    def loss_fn(output, target):
        return nn.functional.mse_loss(output.reshape(-1, 3), target.reshape(-1, 3))

    images = torch.randn(4, 3, 6, 7)
    assert facts_of_axes(Runs(lambda x: x * 2), images, images, loss_fn).scattered == ()
    pooled = facts_of_axes(Runs(lambda x: x[:, :, :1, :1]), images, torch.zeros(4).long(),
                           lambda o, t: nn.functional.cross_entropy(o.reshape(-1, 3), t))  # fmt: skip
    assert pooled.scattered == ()


class Weighed(nn.Module):
    """Attention without queries, in one of several ways to write it."""

    def __init__(self, way):
        super().__init__()
        self.way = way

    def forward(self, inputs_BTD):
        return self.way(inputs_BTD @ inputs_BTD.transpose(1, 2), inputs_BTD)


@pytest.mark.parametrize(
    ("way", "unweighed"),
    [
        (lambda scores, values: scores.softmax(-1) @ values, ()),
        (lambda scores, values: values.transpose(1, 2) @ scores.softmax(1), ()),
        (lambda scores, values: scores.softmax(1) @ values, (((8, 5, 5), 1, 2),)),
        (lambda scores, values: torch.bmm(F.dropout(F.softmax(scores, dim=1), 0.1), values), (((8, 5, 5), 1, 2),)),
        (lambda scores, values: values.transpose(1, 2) @ scores.softmax(2), (((8, 5, 5), 2, 1),)),
    ],
)
def test_weights_of_a_softmax_are_summed_over_its_own_axis(way, unweighed):
    assert facts_of_axes(Weighed(way), torch.randn(8, 5, 3)).unweighed == unweighed
