import pytest
import torch
from torch import nn

import frostline as fl
from frostline.splitting.parts.frontier import Layout, check_frontier, find_layout, from_rows
from helpers_splitting import D, Net, check, x


def test_unbatched_inputs_are_shared():
    model = Net(lambda m, a, table: m.high(m.low(a)) @ table)
    split = check(model, (x(4), torch.randn(D, 3)))
    assert [(tensor.name, tensor.shared) for tensor in split.frontier] == [("low", False), ("input.1", True)]


def test_low_rank_adapters_above_frozen_layers():
    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(D, D) for _ in range(4))
            self.down = nn.ModuleList(nn.Linear(D, 2, bias=False) for _ in range(2))
            self.up = nn.ModuleList(nn.Linear(2, D, bias=False) for _ in range(2))

        def forward(self, x):
            for at, layer in enumerate(self.layers):
                y = layer(x)
                x = y + self.up[at - 2](self.down[at - 2](x)) if at >= 2 else y
            return x

    model = Adapted()
    fl.freeze(model, modules=[model.layers])
    split = check(model, x(4))
    # the frozen product of layer 2 is stored too: nothing that depends on frozen values alone runs in the head
    assert [tensor.name for tensor in split.frontier] == ["layers.1", "layers.2"]


OTHER_IN_TRAINING = {
    "another shape": lambda m, low: low.repeat(1, 2 if m.training else 1),
    "another dtype": lambda m, low: low.to(torch.float64 if m.training else torch.float16),
    "another axis": lambda m, low: low.unsqueeze(1 if m.training else 2),
}


@pytest.mark.parametrize("name", OTHER_IN_TRAINING)
def test_what_one_call_makes_in_another_form_in_training_is_stored_for_both_modes(name):
    model = Net(lambda m, batch: OTHER_IN_TRAINING[name](m, m.low(batch)) * m.high.weight.sum())
    split = check(model, x(4))
    assert len(split.frontier) == 2
    batch = x(5)
    for training in (True, False):
        model.train(training)
        split.head.train(training)
        found, expected = split.head(*split.extract(batch)), model(batch)
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)


def in_another_order(m, batch):
    """The same two operations in another order: calls of both modes are counted alike."""
    low = m.low(batch)
    if m.training:
        shared, rows = m.frozen * 2, low * 3
    else:
        rows, shared = low * 3, m.frozen * 2
    return m.high(rows) + shared


def test_calls_of_both_modes_that_are_counted_alike_have_names_of_their_own(tmp_path):
    model = Net(in_another_order)
    model.frozen = nn.Parameter(torch.randn(D), requires_grad=False)
    split = check(model, x(4))
    names = [tensor.name for tensor in split.frontier]
    assert names == ["mul", "mul_1", "mul_1 in training", "mul in training"]
    batch = x(6)
    data = fl.FeatureCache(tmp_path).fill(split, [(row, 0) for row in batch], progress=False)
    for training in (True, False):
        model.train(training)
        split.head.train(training)
        (features, _), *_ = data.loader(6, shuffle=False)
        torch.testing.assert_close(split.head(*features), model(batch))


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


@pytest.mark.parametrize("layout", [Layout(0), Layout(2), Layout(0, 3, True), Layout(1, 2, False), Layout(None),
                                    Layout(0, order=(0, 2, 3, 1)), Layout(1, 2, True, (2, 0, 1, 3))])  # fmt: skip
def test_rows_and_the_tensor_are_each_others_inverse(layout):
    shape = [5, 6, 7, 8]
    if layout.axis is not None:
        shape[layout.axis] = 4 * layout.fold
    tensor = torch.randn(shape)
    rows = layout.to_rows(tensor)
    assert layout.axis is None or len(rows) == 4
    again = layout.from_rows(rows)
    assert torch.equal(again, tensor)
    if layout.order is not None:
        strides = [again.stride(at) for at in layout.order]
        assert strides == sorted(strides, reverse=True)
    else:
        assert again.is_contiguous()


def test_a_tensor_fits_with_so_many_entries_for_every_sample():
    assert Layout(1, 3).fits(torch.zeros(2, 12), 4)
    assert not Layout(1, 3).fits(torch.zeros(2, 12), 5)
    assert not Layout(1, 3).fits(torch.zeros(12), 4)
    assert Layout(None).fits(torch.zeros(3), 99)


def test_samples_that_are_masked_or_have_no_values_are_told_apart_all_the_same():
    x = torch.full((4, 3), float("-inf"))
    x[:, 0] = torch.arange(4.0)
    assert find_layout(x[:2].flatten(), x.flatten(), 2, 4) == Layout(0, 3, True)
    assert find_layout(x[:2].t().flatten(), x.t().flatten(), 2, 4) == Layout(0, 3, False)
    assert find_layout(torch.zeros(2, 0), torch.zeros(4, 0), 2, 4) == Layout(0)
    assert find_layout(torch.zeros(0, 3), torch.zeros(4, 3), 2, 4) is None


def test_a_folded_batch_without_values_has_a_layout():
    assert find_layout(torch.zeros(6, 0), torch.zeros(12, 0), 2, 4) == Layout(0, 3, True)


def test_rows_of_a_folded_batch_belong_to_their_samples():
    x = torch.arange(6).view(3, 2)  # sample b holds 2b and 2b + 1
    assert Layout(0, 2, True).to_rows(x.flatten()).tolist() == x.tolist()
    assert Layout(0, 2, False).to_rows(x.t().flatten()).tolist() == x.tolist()
    assert from_rows(x, Layout(0, 2, False)).tolist() == [0, 2, 4, 1, 3, 5]


def test_tied_weights_that_make_everything_train_are_named():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.body, self.out = nn.Embedding(9, D), nn.Linear(D, D), nn.Linear(D, 9, bias=False)
            self.out.weight = self.embedding.weight

        def forward(self, ids):
            return self.out(self.body(self.embedding(ids)))

    model = Tied()
    fl.freeze(model, modules=[model.body])
    with pytest.raises(fl.SplitError, match="Everything trains from the input on") as error:
        fl.split(model, torch.randint(0, 9, (4, 3)))
    assert "tied to 'out.weight'" in error.value.where


def test_weights_that_are_tied_further_up_are_no_reason():
    model = nn.Sequential(nn.Linear(D, D), nn.Linear(D, D), nn.Linear(D, D))
    model[2].weight = model[1].weight
    fl.freeze(model, modules=[model[2]])
    model[2].weight.requires_grad_(True)
    with pytest.raises(fl.SplitError, match="Everything trains from the input on") as error:
        fl.split(model, torch.randn(4, D))
    assert error.value.where == "0.weight is trainable"
    assert "must include '0.weight'" in error.value.do


def test_a_frontier_of_tables_and_inputs_alone_is_none():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    kinds = {"low": (False, "low"), "table": (True, "table"), "input.x": (False, "input.x")}
    made = {key: fl.FrontierTensor(name, (2,), torch.float32, 8, shared) for key, (shared, name) in kinds.items()}
    assert check_frontier(model, (made["table"], made["low"])) is None
    with pytest.raises(fl.SplitError, match="Everything trains from the input on") as error:
        check_frontier(model, (made["table"], made["input.x"]))
    assert error.value.received == "a frontier of table, input.x"
    assert error.value.where == "0.weight is trainable"
