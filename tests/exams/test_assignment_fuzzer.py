import torch

from exams.fuzz import assignments


def test_layers_that_look_alike_are_never_silently_exchanged():
    found, wrong = assignments.counts(0, 8)
    assert not wrong
    assert {outcome for _, outcome in found} >= {assignments.EXACT, assignments.AMBIGUOUS}


def test_an_exchange_would_be_noticed(monkeypatch):
    def port(path, model, golden=None):
        certificate = real(path, model, golden=golden)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)
        return certificate

    real = assignments.port
    monkeypatch.setattr(assignments, "port", port)
    assert assignments.counts(0, 2)[1]
