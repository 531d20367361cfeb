import pytest
import torch

from frostline.porting.interpreter.layer import Layer, NotInterpretedError, as_sizes, inner

LAYER = Layer(
    "out", "Dense", {"units": 3, "use_bias": False}, (torch.zeros(1, 2),), {"a/kernel": lambda: torch.ones(2, 3)}
)


def test_weights_are_read_in_float64():
    assert LAYER.weight("a/kernel").dtype == torch.float64
    assert LAYER.within("a/", {}, "Part").weight("kernel").shape == (2, 3)
    assert LAYER.bias() is None


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (lambda: LAYER.weight("bias"), ": no weight 'bias'"),
        (lambda: LAYER.needed("axes"), ": no setting 'axes'"),
        (lambda: LAYER.allow(units=4), ": units=3"),
        (lambda: LAYER.refuse(), ""),
        (lambda: Layer("out", "Dense", {}, (), {}).input(), ": 0 inputs"),
        (lambda: inner(LAYER, "units"), ": units is no layer"),
        (lambda: as_sizes(LAYER, [1, 2], 3), ": sizes [1, 2] for 3 axes"),
    ],
)
def test_what_is_missing_is_named(ask, why):
    with pytest.raises(NotInterpretedError) as caught:
        ask()
    assert str(caught.value) == f"not interpreted: out (Dense){why}"
