import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import frostline as fl
from helpers_splitting import Net, check, unanswered, x


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method")
@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, AveragedModel])
def test_a_wrapper_of_the_whole_model_is_taken_off(wrap):
    wrapper = wrap(Net(lambda m, batch: m.high(m.low(batch))))
    fl.freeze(wrapper, through="low")
    split = check(wrapper, x(4), names=["low"])
    assert split.recipe["calls"] == fl.split(next(iter(wrapper.children())), x(4)).recipe["calls"]


def test_a_graph_is_taken_where_it_holds_and_else_the_models_own_forward():
    plain = check(Net(lambda m, batch: m.high(m.low(batch))), x(4))
    assert not plain.explain().notes
    assert plain.num_guards == 0
    by_rows = check(Net(lambda m, batch: torch.stack([m.high(row) for row in m.low(batch)])), x(4), is_graph=False)
    assert "the head runs the model's own forward" in by_rows.explain().notes[0]


def test_values_that_decide_are_read_by_a_head_that_runs_the_models_own_forward():
    def forward(m, batch):
        low = m.low(batch)
        return m.high(low) * (2 if low.abs().max() > 100 else 1)

    assert check(Net(forward), x(4), is_graph=False).num_guards == 0


def test_the_graphs_own_failure_is_told_where_neither_holds():
    with pytest.raises(fl.SplitError, match="handed to Python"):
        fl.split(Net(lambda m, batch: m.high(unanswered(m, batch)) * float(m.high.weight.sum())), x(4))
