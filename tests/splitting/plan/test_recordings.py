import threading

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.splitting.plan.recordings import record_modes
from frostline.splitting.recording.frost_line import FrostLine
from frostline.splitting.recording.run_record import RecorderSettings
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


def test_of_frozen_tensors_only_those_that_cross_the_frost_line_keep_their_values():
    model = nn.Sequential(nn.Linear(D, 9), nn.ReLU(), nn.Linear(9, D), nn.Linear(D, 2))
    fl.freeze(model, through="2")
    frost_line, settings = FrostLine(model), RecorderSettings(is_whole=True)
    for recording in record_modes(model, frost_line, x(4), settings).every:
        held = {point.name: tensor.device.type for point, tensor in recording.origins.items()}
        assert held["2"] == "cpu"
        assert {held["0"], held["1"]} == {"meta"}
        assert {tuple(tensor.shape)[1] for tensor in recording.origins.values()} == {9, D}


def test_a_tensor_that_crosses_in_training_only_is_kept_of_evaluation():
    def forward(m, batch):
        low = m.low(batch)
        return m.high(low) + low.cos() if m.training else m.high(low)

    model = Net(forward, high=nn.Linear(D, D))
    check(model, x(4))


def _arange(count: int) -> torch.Tensor:
    return torch.arange(count).float()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_a_tensor_of_unknown_origin_is_made_again_or_refused():
    scripted = torch.jit.script(_arange)
    check(Net(lambda m, batch: m.high(m.low(batch)) + scripted(8)), x(4), is_graph=False)
    with pytest.raises(fl.SplitError, match="makes a tensor by a call that cannot be recorded"):
        fl.split(Net(lambda m, batch: m.high(unanswered(m, batch)) + scripted(8)), x(4))
