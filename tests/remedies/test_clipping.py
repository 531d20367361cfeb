import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import frostline as fl
from frostline import remedies
from frostline.core.norms import gradient_norms

CLIPS = {
    "value": lambda: remedies.clip_by_value(0.5),
    "norm": lambda: remedies.clip_by_norm(0.5),
    "adaptive": remedies.clip_adaptive,
    "percentile": lambda: remedies.clip_by_percentile(50, warmup=1),
    "zscore": lambda: remedies.clip_by_zscore(warmup=2, max_norm=9.0),
}


def layer(dtype=torch.float32) -> nn.Linear:
    made = nn.Linear(3, 4, dtype=dtype)
    made.weight.grad, made.bias.grad = torch.full((4, 3), 4.0, dtype=dtype), torch.full((4,), -4.0, dtype=dtype)
    return made


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e25))
def test_the_norm_never_exceeds_the_limit_and_the_direction_stays(limit, size):
    made = layer()
    made.weight.grad *= size
    direction = made.weight.grad / made.weight.grad.max()
    clipped = remedies.clip_by_norm(limit)(made.parameters())
    assert not clipped.skipped
    assert float(gradient_norms(made.parameters(), dtype=torch.float64).total) <= max(limit, 0) * (1 + 1e-5)
    torch.testing.assert_close(made.weight.grad / made.weight.grad.max(), direction)


def test_small_gradients_are_left_as_they_are():
    made = layer()
    before = made.weight.grad.clone()
    clipped = remedies.clip_by_norm(100.0)(made.parameters())
    assert torch.equal(made.weight.grad, before)
    assert float(clipped) == pytest.approx(16.0)
    assert clipped.norms.tolist() == pytest.approx([4 * 12**0.5, 8.0])
    assert clipped.parameters[1] is made.bias


def test_components_are_cut():
    made = layer()
    assert float(remedies.clip_by_value(0.5)(list(made.parameters()))) == pytest.approx(16.0)
    assert made.weight.grad.max() == 0.5
    assert made.bias.grad.min() == -0.5


def test_adaptive_clipping_follows_each_units_own_weights():
    made = layer()
    with torch.no_grad():
        made.weight.copy_(torch.tensor([[0.0], [1.0], [10.0], [1e4]]).expand(4, 3))
    remedies.clip_adaptive(0.01)([made.weight])
    root = 3**0.5
    norms = made.weight.grad.norm(dim=1)
    torch.testing.assert_close(norms, torch.tensor([1e-5, 0.01 * root, 0.1 * root, 4 * root]))
    assert made.bias.grad.max() == -4.0  # was not given


def test_adaptive_clipping_takes_a_vector_as_one_unit():
    vector = nn.Parameter(torch.tensor([3.0, 4.0]))
    vector.grad = torch.tensor([8.0, 6.0])
    remedies.clip_adaptive(0.1)([vector])
    torch.testing.assert_close(vector.grad, torch.tensor([0.4, 0.3]))  # norm 0.1 * 5, in the direction of before


def test_adaptive_clipping_in_double_precision_keeps_its_range():
    weight = nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
    weight.grad = torch.full((2, 2), 1e150, dtype=torch.float64)
    remedies.clip_adaptive(0.01)([weight])
    assert weight.grad.norm(dim=1).tolist() == pytest.approx([0.01 * 2**0.5] * 2)


def test_the_percentile_is_of_the_norms_measured_in_the_window():
    clip = remedies.clip_by_percentile(50, window=3, warmup=2)
    parameter = nn.Parameter(torch.zeros(1))
    for size, expected in [(9.0, 9.0), (1.0, 1.0), (5.0, 5.0), (9.0, 5.0), (2.0, 2.0), (9.0, 9.0)]:
        parameter.grad = torch.tensor([size])
        clip(parameter)
        assert float(parameter.grad) == pytest.approx(expected, rel=1e-5)
    assert len(clip.state_dict()["rule"]["norms"]) == 3


def test_a_spike_is_cut_and_the_larger_one_further():
    def after(spike):
        clip = remedies.clip_by_zscore(warmup=4)
        parameter = nn.Parameter(torch.zeros(1))
        for size in (1.0, 1.2, 0.8, 1.0, 1.1, spike):
            parameter.grad = torch.tensor([size])
            clip(parameter)
        return float(parameter.grad)

    assert after(1.2) == pytest.approx(1.2)
    assert 1.0 < after(100.0) < after(4.0) < 1.6


def test_a_zscore_limit_holds_in_the_warm_up():
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.tensor([50.0])
    remedies.clip_by_zscore(max_norm=2.0)(parameter)
    assert float(parameter.grad) == pytest.approx(2.0)


def clipped_norms(clip, *norms):
    """Norms of the gradient after each clip."""
    found = []
    for norm in norms:
        weight = nn.Parameter(torch.ones(1))
        weight.grad = torch.tensor([norm])
        clip([weight])
        found.append(float(weight.grad))
    return found


def test_the_warm_up_has_as_many_steps_as_it_says():
    assert clipped_norms(remedies.clip_by_percentile(50, warmup=2), 1.0, 9.0, 9.0, 99.0) == pytest.approx([1, 9, 9, 9])
    assert clipped_norms(remedies.clip_by_percentile(50, warmup=1), 1.0, 9.0)[1] == pytest.approx(5.0)
    assert clipped_norms(remedies.clip_by_zscore(2.0, warmup=3), 1.0, 1.2, 50.0, 1.1)[2] == 50.0
    assert clipped_norms(remedies.clip_by_zscore(2.0, warmup=2), 1.0, 1.2, 50.0)[2] < 2.0


def test_the_window_forgets():
    assert clipped_norms(remedies.clip_by_percentile(100, window=2, warmup=0), 9.0, 1.0, 2.0) == pytest.approx(
        [9, 1, 2]
    )
    assert clipped_norms(remedies.clip_by_percentile(50, window=1, warmup=0), 1.0, 9.0) == pytest.approx([1, 9])


def test_the_defaults_are_those_of_the_papers():
    weight = nn.Parameter(torch.ones(2, 2))
    weight.grad = torch.ones(2, 2)
    remedies.clip_adaptive()([weight])
    assert float(weight.grad.norm()) == pytest.approx(0.02, rel=1e-4)
    weight.data.zero_()
    weight.grad = torch.ones(2, 2)
    remedies.clip_adaptive()([weight])
    assert float(weight.grad[0].norm()) == pytest.approx(0.01 * 1e-3, rel=1e-4)
    many = clipped_norms(remedies.clip_by_percentile(), *[float(norm) for norm in range(1, 41)])
    assert many[:20] == [float(norm) for norm in range(1, 21)]
    assert many[39] == pytest.approx(4.9, rel=1e-3)
    spiky = clipped_norms(remedies.clip_by_zscore(), *[1.0, 1.2] * 12, 1.1, 9.0)
    assert spiky[24] == pytest.approx(1.1)
    assert spiky[25] < 1.5


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_with_gradients_that_are_not_finite_changes_nothing(name, value):
    made = layer()
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    optimizer.step()
    before = [p.detach().clone() for p in made.parameters()]
    clip = CLIPS[name]()
    made.weight.grad[0, 0] = value
    clipped = clip(made.parameters())
    optimizer.step()
    assert clipped.skipped
    assert (clip.num_skipped, clip.num_calls) == (1, 1)
    assert all(torch.equal(p, old) for p, old in zip(made.parameters(), before, strict=True))
    assert not torch.isfinite(clipped.norms[0])


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64])
def test_every_dtype_and_sparse_gradients_are_clipped(name, dtype):
    made, table = layer(dtype), nn.Embedding(4, 2, sparse=True)
    (1e3 * table(torch.tensor([1, 1, 2]))).sum().backward()
    clip = CLIPS[name]()
    for _ in range(4):
        clipped = clip([*made.parameters(), table.weight])
        assert not clipped.skipped
    assert table.weight.grad.is_sparse
    assert made.weight.grad.dtype == dtype


@pytest.mark.parametrize("name", CLIPS)
def test_tied_and_missing_gradients(name):
    made = layer()
    made.bias.grad = None
    clipped = CLIPS[name]()([made.weight, made.weight, made.bias])
    assert len(clipped.parameters) == 1
    assert CLIPS[name]()([made.bias]).norm == 0


@pytest.mark.parametrize("name", CLIPS)
def test_what_a_clip_remembers_goes_through_json(name):
    first, second = CLIPS[name](), CLIPS[name]()
    sizes = [1.0, 3.0, 2.0, 1.5, 8.0, 1.0]
    parameter = nn.Parameter(torch.ones(1))

    def step(clip, size):
        parameter.grad = torch.tensor([size])
        clip(parameter)
        return float(parameter.grad)

    for size in sizes[:4]:
        step(first, size)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [step(first, s) for s in sizes[4:]] == [step(second, s) for s in sizes[4:]]
    assert second.num_calls == 6
    assert "Clip(" in repr(first)


def test_thresholds_that_make_no_sense_are_refused():
    with pytest.raises(fl.DataError, match="max_norm is not a finite number above 0"):
        remedies.clip_by_norm(0)
    with pytest.raises(fl.DataError, match="limit is not a finite number above 0"):
        remedies.clip_by_value(float("nan"))
    for wrong in ({"percentile": 0}, {"percentile": 101}, {"warmup": -1}, {"window": 0}, {"window": 2.5}):
        with pytest.raises(fl.DataError, match="is not a "):
            remedies.clip_by_percentile(**wrong)
    for wrong in ({"alpha": 1.0}, {"alpha": 0.0}, {"warmup": 1}, {"z": None}, {"max_norm": "1"}):
        with pytest.raises(fl.DataError, match="is not a "):
            remedies.clip_by_zscore(**wrong)
    assert remedies.clip_by_percentile(100, window=1, warmup=0)
    assert remedies.clip_by_zscore(alpha=0.01, warmup=2)


@pytest.mark.parametrize("given", ["named", "groups", "the model", "None"])
def test_what_holds_no_parameters_is_refused(given):
    model = nn.Linear(2, 2)
    wrong = {"named": model.named_parameters(), "groups": [{"params": [*model.parameters()]}], "the model": model}
    with pytest.raises(fl.DataError, match="A clip takes parameters|parameters is not a list"):
        remedies.clip_by_norm(1.0)(wrong.get(given))


@pytest.mark.parametrize("state", [None, {}, {"num_calls": 1, "num_skipped": 0, "rule": {}}, {"num_calls": "a"}])
def test_a_state_of_another_clip_is_refused_and_changes_nothing(state):
    clip = remedies.clip_by_zscore(2.0)
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    clip([weight])
    before = clip.state_dict()
    with pytest.raises(fl.DataError, match="not the state of a clip of this kind"):
        clip.load_state_dict(state)
    assert clip.state_dict() == before


def test_parameters_that_are_sparse_themselves_are_clipped_by_their_entries():
    weight = nn.Parameter(torch.eye(3).to_sparse())
    (10.0 * torch.sparse.mm(weight, torch.ones(3, 1))).sum().backward()
    remedies.clip_adaptive(0.01)([weight])
    assert float(weight.grad.to_dense().abs().max()) <= 0.01 + 1e-6


def test_gradients_without_values_are_refused():
    weight = nn.Parameter(torch.ones(2, device="meta"))
    weight.grad = torch.ones(2, device="meta")
    with pytest.raises(fl.DataError, match="A clip needs gradients with values"):
        remedies.clip_by_norm(1.0)([weight])


@pytest.mark.parametrize(
    ("given", "received"),
    [
        (lambda model: model.named_parameters(), "pairs"),
        (lambda model: dict(model.named_parameters()), "dict"),
        (lambda model: model, "a module"),
        (lambda model: torch.optim.SGD(model.parameters(), 0.1).param_groups, "groups of an optimizer"),
        (lambda model: None, "NoneType"),
        (lambda model: "weight", "str"),
        (lambda model: [model.weight, 1.0], "float"),
    ],
)
@pytest.mark.parametrize("name", CLIPS)
def test_what_is_no_parameter_is_refused(name, given, received):
    with pytest.raises(fl.DataError, match=r"(?s)A clip takes parameters.*Do:.*clip\(") as error:
        CLIPS[name]()(given(layer()))
    assert received in error.value.received


@pytest.mark.parametrize("given", [lambda m: m.parameters(), lambda m: m.weight, lambda m: [m.weight], lambda m: ()])
def test_what_holds_parameters_is_taken(given):
    assert not remedies.clip_by_norm(1.0)(given(layer())).skipped


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("seed", range(5))
def test_in_half_precision_the_norm_never_exceeds_the_limit_either(dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    parameter = nn.Parameter(torch.zeros(20_000, dtype=dtype))
    parameter.grad = torch.randn(20_000, generator=generator).to(dtype)
    remedies.clip_by_norm(1.0)([parameter])
    assert 0.99 < float(parameter.grad.double().norm()) <= 1.0


@pytest.mark.parametrize("make", [remedies.clip_by_norm, remedies.clip_by_value, remedies.clip_by_percentile])
@pytest.mark.parametrize("value", ["1", None, True, -1.0])
def test_thresholds_are_numbers(make, value):
    with pytest.raises(fl.DataError):
        make(value)
