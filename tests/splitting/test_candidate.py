import pytest
import torch

import frostline as fl
from helpers_splitting import Net, check, unanswered, x


def _masked(m, x, mask):
    h = unanswered(m, x)
    if mask.all():
        return m.high(h)
    shown = (h * mask).detach()
    return m.high(shown) * mask


@pytest.mark.parametrize("padded", [[], [0], [5], [0, 1, 2, 3]])
def test_a_sample_with_padding_anywhere_in_the_example_is_recorded(padded):
    model, batch = Net(_masked), {"x": x(6), "mask": torch.ones(6, 1)}
    batch["mask"][padded] = 0
    split = check(model, batch)
    others = [{"x": x(3), "mask": torch.ones(3, 1)}, {"x": x(1), "mask": torch.ones(1, 1)}]
    for other in [batch, *others] if padded else others:
        torch.testing.assert_close(split.head(*split.extract(other)), model(**other))
    if not padded:
        batch["mask"][2] = 0
        with pytest.raises(fl.SplitError, match="another path for this batch") as error:
            split.extract(batch)
        assert "if mask.all():" in error.value.where
        assert "a batch with padding" in error.value.do


def test_one_sample_is_proven_when_it_is_met():
    def forward(m, batch):
        squeezed = m.high(m.low(batch)).squeeze()
        return squeezed * 2 if squeezed.dim() == 1 else squeezed

    split = fl.split(Net(forward), x(4))
    split.head(*split.extract(x(3)))
    features = split.extract(x(1))
    with pytest.raises(fl.SplitError, match="another way for a batch of 1"):
        split.head(*features)


def test_features_that_are_others_at_one_batch_size_are_refused_when_it_is_met():
    model = Net(lambda m, x: m.high((m.low(x) * (2 if len(x) == 5 else 1)).tanh()))
    split = fl.split(model, x(4))
    split.extract(x(6))
    with pytest.raises(fl.SplitError, match="batch of 5") as error:
        split.extract(x(5))
    assert "depends on the batch size" in str(error.value.__cause__)


@pytest.mark.parametrize("write", [lambda batch: batch.sub_(1).div_(2), lambda batch: batch.clamp_(-0.5, 0.5)])
def test_a_model_that_writes_into_its_inputs_is_split(write):
    model = Net(lambda m, batch: m.high(m.low(write(batch))) + batch)
    example = x(4)
    kept = example.clone()
    split = check(model, example)
    assert torch.equal(example, kept)
    batch = x(3)
    features = split.extract(batch)
    split.verify(batch, features)
    assert torch.equal(split.head(*features), model(batch.clone()))
