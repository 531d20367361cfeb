import pytest
import torch
from torch import nn

import frostline as fl
from frostline.training.first_outputs import check_classes, check_loss_and_metrics, first_outputs

LOGITS, LABELS = torch.zeros(2, 3), torch.tensor([0, 2])


def test_looking_at_the_output_changes_nothing_of_the_model():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.calls = nn.BatchNorm1d(2), 0

        def forward(self, inputs):
            self.calls += 1
            return self.norm(inputs) + torch.rand(())

    model, inputs = Counting(), torch.randn(2, 2)
    state, generator = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    assert first_outputs(model, inputs).shape == (2, 2)
    assert (model.calls, model.training) == (0, True)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())


def test_a_label_that_is_no_class_names_the_sample():
    known = {"fit(val=...)": ([(0, 0), (0, 3)], torch.tensor([0, 3]))}
    with pytest.raises(fl.DataError, match="outside of the range") as error:
        check_classes(LOGITS, known)
    assert error.value.where == "fit(val=...), dataset[1]"
    check_classes({"a": LOGITS, "b": LOGITS}, known)  # what the loss takes is told by the loss
    check_classes(torch.zeros(2, 3, 5), known)  # one for each place


def checked(*, output=LOGITS, target=LABELS, val_target=None, loss="cross_entropy", calls_loss=True, **metrics):
    check_loss_and_metrics(output, target, val_target, loss, metrics, calls_loss=calls_loss)


@pytest.mark.parametrize(("options", "what"), [
    ({"loss": "mse"}, "Target and output have different shapes"),
    ({"target": torch.tensor([0.5, 1.5])}, "Cross entropy needs class indices"),
    ({"loss": nn.L1Loss()}, "compare every output with every target"),
    ({"val_target": LABELS, "top5": "top5"}, "top5 needs more classes"),
    ({"val_target": LABELS, "r2": "r2"}, "R2 compares one number"),
    ({"val_target": torch.tensor([0.5, 1.5]), "auroc": "auroc"}, "Cross entropy needs class indices"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(options, what):
    if options.get("loss") not in (None, "mse"):
        options |= {"output": torch.zeros(2, 1), "target": torch.zeros(2)}
    with pytest.raises(fl.DataError, match=what):
        checked(**options)


def test_what_fits_passes():
    checked(val_target=LABELS, top3="top3", auroc="auroc", f1="f1", own=lambda output, target: 1 / 0)
    checked(val_target=LABELS[:1], auroc="auroc")  # one sample has no AUROC, all of them have
    checked(output=torch.zeros(2, 3, 7), target=torch.zeros(2, 7).long(), val_target=torch.zeros(2, 9).long(),
            accuracy="accuracy")  # a place for each word: as many as there are in the sample  # fmt: skip
    checked(output={"a": LOGITS, "b": LOGITS}, calls_loss=False, val_target=LABELS, top9="top9")


def test_a_loss_that_counts_its_calls_is_not_called():
    checked(loss=lambda output, target: 1 / 0, calls_loss=False)
