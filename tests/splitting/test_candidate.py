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


class RefusedError(Exception):
    """Of the caller's own: no error of Python or torch."""


def _checked(takes, error):
    def check_size(value):
        if not takes(len(value)):
            raise error("of this size I take none")

    return check_size


ERRORS = [AssertionError, RefusedError, ZeroDivisionError]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("place", ["root", "low", "high"])
def test_a_model_may_take_even_batches_only_and_is_compared_with_them(place, error):
    check_size = _checked(lambda size: size % 2 == 0, error)
    model = Net(lambda m, batch: (check_size(batch) if place == "root" else None, m.high(m.low(batch)))[1])
    if place != "root":
        getattr(model, place).register_forward_pre_hook(lambda module, given: check_size(given[0]))
    split = fl.split(model, x(4))
    verification = split.explain().verification
    assert (verification.samples, verification.is_of_both_modes) == (4, True)
    assert verification.compared > 0
    batch = x(6)
    torch.testing.assert_close(split.head(*split.extract(batch)), model(batch))


def test_a_model_that_takes_no_other_values_is_refused():
    def forward(m, batch):
        assert batch.abs().max() > 1
        return m.high(m.low(batch))

    with pytest.raises(fl.SplitError, match="takes none of the batches that prove a split") as error:
        fl.split(Net(forward), torch.full((4, 8), 1.2))
    assert error.value.received == "an error of the model on 2, 3 and 4 samples of the example with other values"


def test_a_size_at_which_the_model_failed_is_proven_again():
    failing = [True]

    def forward(m, batch):
        if len(batch) == 7 and failing[0]:
            raise RefusedError
        return m.high(m.low(batch))

    split = fl.split(Net(forward), x(4))
    for _ in range(2):
        with pytest.raises(RefusedError):
            split.prove_size(7)
