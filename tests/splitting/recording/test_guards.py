import pytest
import torch
from torch import nn

import frostline as fl
from frostline.splitting.calls.addresses import Frame, Point
from frostline.splitting.recording.guards import Guard, Handed, Sizes, expect, python_state, returned_guard
from helpers_splitting import D, Net, unanswered, x

ROOT, BLOCK, INSIDE = Frame("", 0), Frame("low", 0), Frame("low.part", 0)


def test_sizes_are_expected_on_the_line_through_two_recordings():
    sizes = Sizes((2, 8, 5), (4, 16, 5), (2, 4))
    assert sizes.at(3) == (3, 12, 5)
    assert sizes.at(7) == (7, 28, 5)
    assert Sizes((1,), (2,), (2, 4)).at(3) == (1.5,)  # fits no shape


def test_a_guard_holds_for_the_same_value_and_for_not_a_number():
    assert Guard(Point(ROOT, "item", 0), 1.5, "").holds(1.5)
    assert Guard(Point(ROOT, "item", 0), float("nan"), "").holds(float("nan"))
    assert not Guard(Point(ROOT, "item", 0), 1.5, "").holds(1.6)


def test_what_is_handed_over_inside_of_a_block_counts_only_if_more_than_its_result_goes_on():
    def handed():
        made = Handed()
        made.opened(BLOCK, ROOT, is_frozen=True)
        made.opened(INSIDE, BLOCK, is_frozen=True)
        for frame in (ROOT, INSIDE):
            point = Point(frame, "item", 0)
            made.guards[point] = Guard(point, 1, "")
        return made

    closed = handed()
    closed.close_blocks([Point(BLOCK, "return", 0)])
    assert [point.frame for point in closed.guards] == [ROOT]
    stashed = handed()
    stashed.close_blocks([Point(INSIDE, "add", 0)])
    assert [point.frame for point in stashed.guards] == [ROOT, INSIDE]
    writing = handed()
    writing.leave_open(INSIDE)
    writing.close_blocks([])
    assert len(writing.guards) == 2


def test_a_block_that_returns_more_than_a_tensor_is_guarded():
    assert returned_guard(BLOCK, torch.ones(2), "") is None
    one, other = (returned_guard(BLOCK, (torch.ones(2), count), "") for count in (1, 2))
    assert not one.holds(other.value)


def test_state_that_a_call_moves_is_seen():
    module = nn.Sequential(nn.Linear(2, 2))
    before = python_state(module)
    module.calls = 1
    assert python_state(module) != before


def test_a_frozen_module_that_returns_a_number_is_guarded():
    class Counting(nn.Linear):
        def forward(self, batch):
            made = super().forward(batch)
            return made, int(made.abs().max() > 5)

    model = Net(lambda m, batch: (lambda low, big: m.high(low) * (1 + big))(*m.low(batch)), low=Counting(D, D))
    model.low.requires_grad_(False)
    split = fl.split(model, x(4) * 0.1)
    with pytest.raises(fl.SplitError, match="another path"):
        split.extract(x(4) * 100)


def test_inputs_that_are_no_tensors_and_missing_ones_are_compared():
    model = Net(lambda m, batch, scale=1.0: m.high(m.low(batch)) * scale)
    split = fl.split(model, {"batch": x(4), "scale": 1.0})
    for other in ({"batch": x(4), "scale": 3.0}, {"batch": x(4), "scale": None}):
        with pytest.raises(fl.FrostlineError):
            split.extract(other)
    assert split.extract({"batch": x(4)})[0].shape == (4, D)  # the default is what was recorded: proven, and taken


def test_an_error_that_the_model_catches_and_the_head_cannot_is_told():
    def forward(m, batch):
        low = unanswered(m, batch)
        try:
            shifted = torch.eye(D) * (1 - (low.abs() > 50).any(dim=1).double().view(-1, 1, 1) * 99)
            root = torch.linalg.cholesky(m.high.weight.double() @ m.high.weight.T.double() + shifted)
        except RuntimeError:
            return m.high(low)
        return m.high(low) + root[:, 0].to(low.dtype)

    model = Net(forward)
    split = fl.split(model, x(4) * 0.1)
    features = split.extract(x(4) * 1000)
    with pytest.raises(fl.SplitError, match="The trainable part fails on these features"):
        split.head(*features)


def test_numbers_of_containers_that_a_call_fills_are_seen():
    module = nn.Sequential(nn.Linear(2, 2))
    module[0].cache, module[0].seen, module[0].flag = [], {}, None
    for change in (lambda: module[0].cache.append(1), lambda: module[0].seen.update(a=1),
                   lambda: setattr(module[0], "flag", "on"), lambda: setattr(module[0], "flag", 2.0)):  # fmt: skip
        before = python_state(module)
        assert python_state(module) == before
        change()
        assert python_state(module) != before


def tensors_at(**shapes):
    return {Point(ROOT, name, 0): torch.zeros(shape) for name, shape in shapes.items()}


def handed(origins, *sized, decides=False):
    made = Handed(decides_by_size=decides)
    for name in sized:
        made.read_size(Point(ROOT, name, 0), ROOT)
    made.read_size(None, ROOT)  # of a weight
    return made, origins


def test_sizes_are_expected_of_what_both_runs_have_read():
    small = (*handed(tensors_at(a=(2, 3), b=(2,), c=(2, 2)), "a", "b", "c"), 2)
    large = (*handed(tensors_at(a=(4, 3), b=(4,), c=(4,)), "a", "c"), 4)
    found = expect(small, large)
    assert list(found.sizes) == [Point(ROOT, "a", 0)]
    assert found.sizes[Point(ROOT, "a", 0)].at(6) == (6, 3)
    assert not found.decides_by_size
    assert found.is_steady


@pytest.mark.parametrize("at", [0, 1])
def test_a_decision_or_another_call_in_either_run_makes_sizes_count(at):
    origins = tensors_at(a=(2, 3)), tensors_at(a=(4, 3))
    runs = [(*handed(origins[one], decides=one == at), size) for one, size in enumerate((2, 4))]
    assert expect(*runs).decides_by_size
    more = [dict(own) for own in origins]
    more[at] |= tensors_at(extra=(1,))
    assert expect(*((*handed(own), size) for own, size in zip(more, (2, 4), strict=True))).decides_by_size


def test_other_values_in_the_second_run_are_not_steady():
    runs = [(*handed(tensors_at()), size) for size in (2, 4)]
    point = Point(ROOT, "item", 0)
    runs[1][0].guards[point] = Guard(point, 1, "")
    found = expect(*runs)
    assert not found.is_steady
    assert found.asks_more_than(expect(runs[0], runs[0]))
    assert not expect(runs[0], runs[0]).asks_more_than(found)


def test_a_frozen_call_that_fails_on_some_samples_is_a_guard():
    def forward(m, batch):
        low, scale = unanswered(m, batch), 1.0
        try:
            torch.linalg.cholesky(torch.eye(8) * 9 - batch[:, :, None] * batch[:, None])
        except RuntimeError:
            scale = 3.0
        return m.high(low) * scale

    model = Net(forward)
    split = fl.split(model, x(4) * 0.1)
    split.extract(x(4) * 0.1)
    with pytest.raises(fl.SplitError, match="another path"):
        split.extract(x(4) * 100)


def test_a_frozen_layer_that_fails_on_some_samples_is_a_guard():
    class Strict(nn.Linear):
        def forward(self, batch):
            if batch.abs().max() > 50:
                raise ValueError("out of range")
            return super().forward(batch)

    def forward(m, batch):
        try:
            return m.high(m.low(batch))
        except ValueError:
            return m.high(batch) * 2

    model = Net(forward)
    model.low = Strict(8, 8).requires_grad_(False)
    split = fl.split(model, x(4))
    with pytest.raises(fl.SplitError, match="another path"):
        split.extract(x(4) * 1000)
