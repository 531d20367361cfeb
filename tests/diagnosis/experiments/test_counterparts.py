import torch
from torch import nn
from torch.nn import functional as F

from frostline.diagnosis import Patient
from frostline.diagnosis.experiments.counterparts import facts_of_counterparts, unusual_settings
from frostline.diagnosis.experiments.examination import examine
from frostline.diagnosis.experiments.trial import usual_optimizer

INPUTS = torch.randn(640, 4, generator=torch.Generator().manual_seed(0))
LABELS = (INPUTS[:, 0] * INPUTS[:, 1] > 0).long()
DATA = [(INPUTS[rows], LABELS[rows]) for _ in range(8) for rows in torch.arange(512).split(32)]
JUDGED = [(INPUTS[512:], LABELS[512:])]


def network(*parts):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 32), *parts, nn.Linear(32, 2))


def half_hidden(output, target):
    return F.cross_entropy(output, target.where(torch.arange(len(target)) % 2 == 0, 0))


def compared(model, loss_fn=F.cross_entropy, optimizer=torch.optim.Adam, **settings):
    settings = {"lr": 1e-2} | settings
    patient = Patient(model, usual_optimizer(model, lambda own: optimizer(own, **settings)))
    return facts_of_counterparts(examine(patient, DATA, JUDGED, loss_fn))


def test_a_network_that_cannot_is_named():
    facts = compared(network())
    assert (facts.part, facts.by) == ("network", "a plain network")
    assert facts.own < 0.65 < 0.8 < facts.swapped


def test_a_loss_that_hides_half_of_the_targets_is_named():
    facts = compared(network(nn.ReLU()), half_hidden)
    assert (facts.part, facts.by) == ("loss", "cross_entropy")


def test_an_optimizer_that_hardly_moves_is_named():
    facts = compared(network(nn.ReLU()), lr=1e-2, eps=1e3)
    assert (facts.part, facts.settings) == ("optimizer", "eps=1000.0 (usually 1e-08)")


def test_nothing_is_said_of_a_network_that_learns():
    assert compared(network(nn.ReLU())) is None


def test_nothing_is_said_where_a_plain_network_learns_nothing_either():
    torch.manual_seed(0)
    data = [(inputs, torch.randint(2, (len(inputs),))) for inputs, _ in DATA]
    model = network(nn.ReLU())
    patient = Patient(model, torch.optim.Adam(model.parameters(), lr=1e-2))
    assert facts_of_counterparts(examine(patient, data, JUDGED, F.cross_entropy)) is None


def test_settings_that_are_no_defaults():
    model = network()
    groups = [{"params": model[0].parameters(), "lr": 1e-7}, {"params": model[1].parameters()}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.99, weight_decay=0.1)
    assert unusual_settings(Patient(model, optimizer)) == "momentum=0.99 (usually 0), rates from 1e-07 to 0.1"
    assert unusual_settings(Patient(model, torch.optim.Adam(model.parameters()))) == ""


def test_where_outputs_cannot_be_compared_the_loss_is():
    target = torch.stack([LABELS.float(), INPUTS[:, 0]], 1)  # a class and a number, of one loss

    def loss_fn(output, target):
        return F.cross_entropy(output[:, :2], target[:, 0].long()) + F.mse_loss(output[:, 2], target[:, 1])

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 1), nn.Linear(1, 3))
    data = [(INPUTS[rows], target[rows]) for _ in range(8) for rows in torch.arange(512).split(32)]
    judged = [(INPUTS[rows], target[rows]) for rows in torch.arange(512, 640).split(16)]
    patient = Patient(model, torch.optim.Adam(model.parameters(), lr=1e-2))
    facts = facts_of_counterparts(examine(patient, data, judged, loss_fn))
    assert (facts.part, facts.is_of_loss) == ("network", True)
    assert facts.own < 0.6 < facts.swapped


def test_a_network_that_keeps_a_code_is_not_compared_with_one_that_copies():
    torch.manual_seed(0)
    mixed = torch.randn(4, 12)
    inputs = torch.randn(640, 4) @ mixed
    data = [(rows, rows) for rows in inputs.split(16)]
    model = nn.Sequential(nn.Linear(12, 1), nn.Linear(1, 12))
    patient = Patient(model, torch.optim.Adam(model.parameters(), lr=1e-2))
    assert facts_of_counterparts(examine(patient, data[:32], data[32:], F.mse_loss)) is None
