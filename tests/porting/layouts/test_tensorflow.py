import torch
from torch import nn

from frostline.porting.plan.execution import carry_out
from frostline.porting.plan.plan import make_plan
from helpers_porting import numbers, source_of


@torch.no_grad()
def test_the_cell_of_tensorflow_1_adds_a_forget_bias_that_is_not_stored():
    kernel, bias, x, c, h = numbers(5, 8), numbers(8), numbers(1, 3), numbers(1, 2), numbers(1, 2, seed=4)
    cell = nn.LSTMCell(3, 2)
    plan = make_plan(
        source_of("tensorflow", {"basic_lstm_cell": {"kernel": kernel, "bias": bias}}), "f", nn.Sequential(cell)
    )
    carry_out(plan, nn.Sequential())
    i, j, f, o = (torch.cat([x, h], 1) @ kernel + bias).chunk(4, 1)
    after = c * (f + 1).sigmoid() + i.sigmoid() * j.tanh()
    found_h, found_c = cell(x, (h, c))
    assert torch.allclose(found_c, after, atol=1e-6)
    assert torch.allclose(found_h, after.tanh() * o.sigmoid(), atol=1e-6)
    assert "forget bias of 1" in plan.steps[0].moves[3].text()
