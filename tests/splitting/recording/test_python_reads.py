import pytest
import torch
from torch import nn

import frostline as fl
from helpers_splitting import D, Net, check, unanswered, x

VALUES = {
    "the size of nonzero": lambda h: h.clamp(-5, 5) if len((h.abs() > 5).nonzero()) else h,
    "the size of a boolean index": lambda h: h.clamp(-5, 5) if h[h.abs() > 5].numel() else h,
    "the size of where": lambda h: h.clamp(-5, 5) if torch.where(h.abs() > 5)[0].shape[0] else h,
    "the size of unique": lambda h: h * 2 if (h.abs() > 5).unique().numel() > 1 else h,
    "the size of masked_select": lambda h: h * 2 if h.masked_select(h > 5).size(0) else h,
    "the size of bincount": lambda h: h * 2 if torch.bincount((h.abs() > 5).long().flatten()).shape[0] > 1 else h,
    "text": lambda h: h * 2 if "9" in f"{h.abs().max():.0f}" or len(str(h.abs().max() > 5)) == 12 else h,
    "a list": lambda h: h * 2 if max(map(max, h.tolist())) > 5 else h,
    "storage": lambda h: h * 2 if bytes(h.abs().amax().gt(5).untyped_storage())[0] else h,
    "iteration": lambda h: h * 2 if any(bool(row.abs().max() > 5) for row in h) else h,
    "containment": lambda h: h * 2 if True in (h.abs() > 5) else h,
}


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("is_steering_the_head", [True, False])
def test_a_value_that_reaches_python_in_any_form_is_met_again_or_refused(name, is_steering_the_head):
    def forward(model, batch):
        low = model.low(batch)
        other = VALUES[name](low)
        changed = other is not low and not torch.equal(other, low)
        return model.high(low) * (2 if changed else 1) if is_steering_the_head else model.high(other)

    model = Net(forward)
    split = fl.split(model, x(4) * 0.1)
    far = x(5) * 30
    try:
        found = split.head(*split.extract(far))
    except fl.FrostlineError:
        return
    torch.testing.assert_close(found, model(far))


def test_a_trainable_module_that_returns_a_number_of_its_values_is_refused():
    class Telling(nn.Linear):
        def forward(self, batch):
            made = super().forward(batch)
            return made, float(made.detach().abs().max() > 5)

    model = Net(
        lambda m, batch: (lambda made, big: made * (1 + big))(*m.telling(unanswered(m, batch))), telling=Telling(D, D)
    )
    with pytest.raises(fl.SplitError):
        fl.split(model, x(4))


@pytest.mark.parametrize("wrap", [lambda model: model, nn.Sequential])
def test_what_is_computed_outside_of_torch_between_frozen_layers_is_computed_by_the_models_own_forward(wrap):
    model = wrap(Net(lambda m, batch: m.high(torch.as_tensor(m.low(batch).numpy() * 2))))
    split = check(model, x(4), is_graph=False)
    batch = x(5)
    assert torch.equal(split.head(*split.extract(batch)), model(batch))
