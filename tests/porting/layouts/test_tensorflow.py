import pytest
import torch
from torch import nn

from frostline.core.errors import PortError
from frostline.porting.blocks import ResetBeforeGRU
from frostline.porting.plan.execution import carry_out
from frostline.porting.plan.port_plan import make_plan
from frostline.porting.proof.trials import settle
from helpers_porting import numbers, source_of


@torch.no_grad()
def test_the_cell_of_tensorflow_1_adds_a_forget_bias_that_is_not_stored():
    kernel, bias, x, c, h = numbers(5, 8), numbers(8), numbers(1, 3), numbers(1, 2), numbers(1, 2, seed=4)
    cell = nn.LSTMCell(3, 2)
    plan = make_plan(
        source_of("tensorflow", {"basic_lstm_cell": {"kernel": kernel, "bias": bias}}), "f", nn.Sequential(cell)
    )
    plan, _ = settle(plan, cell, [])
    carry_out(plan, nn.Sequential())  # the usual one is taken where no outputs tell
    i, j, f, o = (torch.cat([x, h], 1) @ kernel + bias).chunk(4, 1)
    after = c * (f + 1).sigmoid() + i.sigmoid() * j.tanh()
    found_h, found_c = cell(x, (h, c))
    assert torch.allclose(found_c, after, atol=1e-6)
    assert torch.allclose(found_h, after.tanh() * o.sigmoid(), atol=1e-6)
    assert "forget bias of 1" in plan.steps[0].moves[3].text()


@torch.no_grad()
def test_the_gru_cell_of_tensorflow_1_is_one_that_resets_before_the_product():
    gates, candidate = {"kernel": numbers(5, 4), "bias": numbers(4)}, {"kernel": numbers(5, 2), "bias": numbers(2)}
    own, x = ResetBeforeGRU(3, 2), numbers(1, 2, 3)
    source = source_of("tensorflow", {"gru_cell/gates": gates, "gru_cell/candidate": candidate})
    carry_out(make_plan(source, "f", nn.Sequential(own)), nn.Sequential())
    state = torch.zeros(1, 2)
    for step in x.unbind(1):
        r, u = (torch.cat([step, state], 1) @ gates["kernel"] + gates["bias"]).sigmoid().chunk(2, 1)
        c = (torch.cat([step, r * state], 1) @ candidate["kernel"] + candidate["bias"]).tanh()
        state = u * state + (1 - u) * c
    assert torch.allclose(own(x)[1], state, atol=1e-6)
    with pytest.raises(PortError, match="nn.GRU cannot represent 'gru_cell'"):
        make_plan(source, "f", nn.Sequential(nn.GRU(3, 2)))
