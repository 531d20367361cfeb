import pytest
import torch

from frostline.porting.interpreter.layer import NotInterpretedError
from frostline.porting.interpreter.random_inputs import NUM_SAMPLES, prepared_by, samples
from helpers_interpreting import floats, network


def start(*shape, name="x"):
    return (name, "InputLayer", {"batch_shape": [None, *shape]}, ())


def test_inputs_are_normal_numbers_of_the_stated_shape_the_same_each_time():
    source = network(start(4, 5, 3))
    (value,) = samples(source)
    assert value.shape == (NUM_SAMPLES, 4, 5, 3)
    assert value.dtype == torch.float64
    assert torch.equal(value, value.float().double())
    assert torch.equal(value, samples(source)[0])
    assert not torch.equal(value, samples(source, seed=1)[0])
    assert 0.8 < float(value.std()) < 1.2


def test_axes_that_are_left_open_get_a_size():
    assert samples(network(start(None, None, 3)))[0].shape == (NUM_SAMPLES, 64, 64, 3)
    assert samples(network(start(None, 3)))[0].shape == (NUM_SAMPLES, 16, 3)


@pytest.mark.parametrize("shape", [(8, 8, None), (0,), (10**9,), ("x",), (1, 2, 3, 4, 5)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(NotInterpretedError, match=r"not interpreted: x \(InputLayer\): the shape"):
        samples(network(start(*shape)))


def test_embeddings_take_numbers_of_their_rows_and_no_zeros_where_these_are_masked():
    table = ("table", "Embedding", {"input_dim": 4, "output_dim": 2}, ("x",))
    masked = ("table", "Embedding", {"input_dim": 4, "output_dim": 2, "mask_zero": True}, ("x",))
    (plain,), (without,) = samples(network(start(300), table)), samples(network(start(300), masked))
    assert set(plain.unique().tolist()) == {0, 1, 2, 3}
    assert set(without.unique().tolist()) == {1, 2, 3}
    with pytest.raises(NotInterpretedError, match="the sizes of its embeddings"):
        samples(network(start(3), ("table", "Embedding", {}, ("x",))))


def test_layers_that_prepare_inputs_give_normal_numbers():
    source = network(
        start(400, 3), ("scale", "Rescaling", {"scale": 1 / 255, "offset": -0.5}, ("x",)),
        ("norm", "Normalization", {"axis": [-1]}, ("scale",)), ("end", "Flatten", {}, ("norm",)),
        norm__mean=floats(3), norm__variance=floats(3).square() + 0.1,
    )  # fmt: skip
    (value,) = samples(source)
    assert float(value.std()) > 50
    scaled = value / 255 - 0.5
    normed = (scaled - floats(3).double()) / (floats(3).square() + 0.1).double().sqrt()
    assert normed.std() == pytest.approx(1, abs=0.1)
    assert prepared_by(source, "x").name == "scale"
    assert prepared_by(source, "norm") is None
