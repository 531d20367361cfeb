import pytest
import torch
from torch import nn

from frostline.core.errors import PortError
from frostline.porting.blocks import ResetBeforeGRU
from frostline.porting.plan.execution import carry_out
from frostline.porting.plan.port_plan import make_plan
from frostline.porting.proof.module_outputs import Golden
from frostline.porting.proof.trials import settle
from helpers_porting import numbers, source_of


class Scaled(nn.Module):
    def __init__(self, alpha, beta):
        super().__init__()
        self.fc, self.alpha, self.beta = nn.Linear(3, 3), alpha, beta

    def forward(self, x):
        return self.alpha * (x @ self.fc.weight.T) + self.beta * self.fc.bias


def port_node(module, kind, config, leaves):
    source = source_of("onnx", {"n": leaves}, layers=[("n", kind, config, ())])
    plan = make_plan(source, "file", nn.Sequential(module))
    carry_out(plan, nn.Sequential())
    return module


def test_a_product_is_transposed_by_its_attribute_alone():
    square = numbers(3, 3)
    assert torch.equal(port_node(nn.Linear(3, 3), "Gemm", {"transB": 1}, {"weight": square}).weight, square)
    assert torch.equal(port_node(nn.Linear(3, 3), "MatMul", {}, {"weight": square}).weight, square.T)


@pytest.mark.parametrize(("is_folded", "alpha", "beta"), [(True, 0.5, 2.0), (False, 0.5, 2.0), (True, 1.0, 0.3)])
def test_alpha_and_beta_are_in_the_weights_or_in_the_module_as_a_run_shows(is_folded, alpha, beta):
    leaves, x = {"weight": numbers(3, 3), "bias": numbers(3)}, numbers(4, 3, seed=5)
    config = {"alpha": alpha, "beta": beta}
    source = source_of("onnx", {"n": leaves, "m": leaves}, order="graph", layers=[
        ("n", "Gemm", config, ()), ("m", "Gemm", config, ("n",))])  # fmt: skip
    factors = (1.0, 1.0) if is_folded else (alpha, beta)
    module = nn.Sequential(Scaled(*factors), Scaled(*factors))
    plan = make_plan(source, "file", module, hints={"n": "0.fc", "m": "1.fc"})
    assert len(plan.opened) == 1
    wanted = x
    for _ in range(2):
        wanted = alpha * (wanted @ leaves["weight"]) + beta * leaves["bias"]
    settled, _ = settle(plan, module, [Golden((x,), (wanted,))])
    carry_out(settled, module)
    assert torch.allclose(module(x), wanted, atol=1e-5)
    assert ("times" in str(settled)) == is_folded


def test_a_product_without_factors_is_not_open():
    source = source_of("onnx", {"n": {"weight": numbers(3, 2)}}, layers=[("n", "Gemm", {"alpha": 1.0}, ())])
    assert make_plan(source, "file", nn.Sequential(nn.Linear(3, 2))).opened == ()


def test_gates_change_places_and_a_bias_has_two_halves():
    leaves = {"W": numbers(2, 8, 3), "R": numbers(2, 8, 2), "B": numbers(2, 16)}
    own = port_node(nn.LSTM(3, 2, bidirectional=True), "LSTM", {}, leaves)
    w = leaves["W"][1]
    assert torch.equal(own.weight_ih_l0_reverse, torch.cat([w[:2], w[4:6], w[6:], w[2:4]]))
    assert torch.equal(own.bias_hh_l0[:2], leaves["B"][0, 8:10])


def test_a_gru_that_resets_before_the_product_is_refused():
    leaves = {"W": numbers(1, 6, 3), "R": numbers(1, 6, 2), "B": numbers(1, 12)}
    with pytest.raises(PortError, match=r"nn.GRU cannot represent 'n/forward'"):
        port_node(nn.GRU(3, 2), "GRU", {}, leaves)
    own = port_node(nn.GRU(3, 2), "GRU", {"linear_before_reset": 1}, leaves)
    assert torch.equal(own.bias_ih_l0[:2], leaves["B"][0, 2:4])


def test_a_block_takes_it_as_it_is():
    leaves = {"W": numbers(1, 6, 3), "R": numbers(1, 6, 2), "B": numbers(1, 12)}
    own = port_node(ResetBeforeGRU(3, 2, state_bias=True), "GRU", {}, leaves)
    assert torch.equal(own.weight_ih, leaves["W"][0])
    assert torch.equal(own.bias_hh, leaves["B"][0, 6:])
    with pytest.raises(PortError, match="Some layers have no partner"):
        port_node(ResetBeforeGRU(3, 2, state_bias=True), "GRU", {"linear_before_reset": 1}, leaves)


def test_norms_slopes_embeddings_and_convolutions():
    norm = port_node(nn.BatchNorm2d(2), "BatchNormalization", {},
                     {"scale": numbers(2), "B": numbers(2), "mean": numbers(2), "var": numbers(2, seed=1)})  # fmt: skip
    assert torch.equal(norm.running_var, numbers(2, seed=1))
    assert port_node(nn.PReLU(2), "PRelu", {}, {"slope": numbers(2, 1, 1)}).weight.shape == (2,)
    assert torch.equal(port_node(nn.Embedding(3, 3), "Gather", {}, {"weight": numbers(3, 3)}).weight, numbers(3, 3))
    assert torch.equal(port_node(nn.Conv1d(2, 2, 2), "Conv", {}, {"weight": numbers(2, 2, 2)}).weight, numbers(2, 2, 2))
    rnn = port_node(nn.RNN(3, 2), "RNN", {}, {"W": numbers(1, 2, 3), "R": numbers(1, 2, 2)})
    assert torch.equal(rnn.weight_ih_l0, numbers(1, 2, 3)[0])


@torch.no_grad()
def test_a_gru_that_resets_before_the_product_fits_the_block_that_does():
    own = port_node(
        ResetBeforeGRU(3, 2), "GRU", {}, {"W": numbers(1, 6, 3), "R": numbers(1, 6, 2), "B": numbers(1, 12)}
    )
    assert torch.equal(own.bias, numbers(1, 12)[0, :6] + numbers(1, 12)[0, 6:])
    assert torch.equal(own.weight_hh, numbers(1, 6, 2)[0])
    without = port_node(ResetBeforeGRU(3, 2), "GRU", {}, {"W": numbers(1, 6, 3), "R": numbers(1, 6, 2)})
    assert not without.bias.any()
    with pytest.raises(PortError, match="no partner"):
        leaves = {"W": numbers(1, 6, 3), "R": numbers(1, 6, 2)}
        port_node(ResetBeforeGRU(3, 2), "GRU", {"linear_before_reset": 1}, leaves)


def test_arrays_of_a_cell_of_pytorch_stay_as_they_are():
    leaves = {"weight_ih": numbers(8, 3), "weight_hh": numbers(8, 2), "bias_ih": numbers(8), "bias_hh": numbers(8)}
    source = source_of("onnx", {"n": leaves})
    cell = nn.LSTMCell(3, 2)
    carry_out(make_plan(source, "file", nn.Sequential(cell)), nn.Sequential())
    assert torch.equal(cell.weight_ih, leaves["weight_ih"])
