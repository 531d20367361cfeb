import threading

import pytest
import torch
from torch import nn

import frostline as fl
from helpers_splitting import D, Net, check, unanswered, x


def test_whole_numbers_that_another_thread_computes_with_are_refused():
    class Looking(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(9, D)

        def forward(self, ids):
            made = []
            thread = threading.Thread(target=lambda: made.append(self.table.weight.detach()[ids]))
            thread.start()
            thread.join()
            return made[0] * 2

    model = nn.Sequential(Looking(), nn.Linear(D, 2))
    fl.freeze(model, modules=[model[0]])
    with pytest.raises(fl.NotCacheable, match="cannot be recorded"):
        fl.split(model, torch.arange(8).reshape(4, 2))


def _arange(count: int) -> torch.Tensor:
    return torch.arange(count).float()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_a_tensor_of_unknown_origin_is_made_again_or_refused():
    scripted = torch.jit.script(_arange)
    check(Net(lambda m, batch: m.high(m.low(batch)) + scripted(8)), x(4), is_graph=False)
    with pytest.raises(fl.SplitError, match="makes a tensor by a call that cannot be recorded"):
        fl.split(Net(lambda m, batch: m.high(unanswered(m, batch)) + scripted(8)), x(4))
