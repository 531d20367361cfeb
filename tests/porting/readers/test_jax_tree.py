import pytest
import torch

from frostline.porting.readers.contract import SourceTensor
from frostline.porting.readers.jax_tree import place, source


@pytest.mark.parametrize(
    ("path", "unit", "leaf", "wrapper"),
    [
        ("params/Conv_0/kernel", "Conv_0", "kernel", ""),
        ("batch_stats/block/BatchNorm_0/mean", "block/BatchNorm_0", "mean", ""),
        ("params/params/head/bias", "head", "bias", ""),
        ("transformer/h/0/attn/kernel", "transformer/h/0/attn", "kernel", ""),
        ("state/model/params/Dense_0/kernel", "Dense_0", "kernel", "state/model"),
        ("opt/target/Transformer/encoder_norm/scale", "Transformer/encoder_norm", "scale", "opt"),
        ("optimizer/target/params/head/bias", "head", "bias", "optimizer"),
        ("layers/0/kernel/value", "layers/0", "kernel", ""),
        ("params/cls", "", "cls", ""),
        ("optim/head/kernel", None, None, None),
    ],
)
def test_paths(path, unit, leaf, wrapper):
    found = place(path.split("/"), (3,), "float32")
    if unit is None:
        assert found.role == "optimizer slot"
    else:
        assert (found.unit, found.leaf, found.role, found.wrapper) == (unit, leaf, None, wrapper)


@pytest.mark.parametrize(
    ("path", "shape", "dtype", "role"),
    [
        ("opt_state/0/mu/Conv_0/kernel", (3,), "float32", "optimizer slot"),
        ("opt_state/params/Conv_0/kernel", (3,), "float32", "optimizer slot"),
        ("ema_params/head/bias", (3,), "float32", "moving average"), ("step", (), "int32", "counter"),
        ("rng", (2,), "uint32", "random state"), ("params/logit_scale", (), "float32", None),
        ("attention/key", (3, 3), "float32", None),  # a projection
    ],
)  # fmt: skip
def test_what_is_no_weight(path, shape, dtype, role):
    assert place(path.split("/"), shape, dtype).role == role


def tree(*names):
    return {
        tuple(name.split("/")): SourceTensor(name, (1,), "float32", "", "", lambda: torch.zeros(1)) for name in names
    }


def test_numbers_order_the_layers_and_wrappers_are_said():
    found = source("x", tree("s/params/Dense_10/bias", "s/params/Dense_9/bias", "ema/Dense_9/bias"), None, ["n"])
    assert [tensor.unit for tensor in found.tensors] == ["Dense_9", "Dense_10"]
    assert found.notes == (
        "n", "The network was found in 's'.",
        "The tree also contains moving averages, which were left out; pass their entry as the key to select them.",
    )  # fmt: skip


def test_a_part_of_the_tree():
    whole = tree("params/a/bias", "ema_params/a/bias")
    found = source("x", whole, "ema_params")
    assert [(tensor.name, tensor.unit, tensor.leaf) for tensor in found.tensors] == [("ema_params/a/bias", "a", "bias")]
    assert found.dropped == {"params/a/bias": "replaced by its moving average"}
    assert found.notes == ("The parameters were taken from the moving average 'ema_params'.",)
    assert source("x", whole, "params").dropped == {"ema_params/a/bias": "not part of 'params'"}
    assert source("x", whole, "missing") is None


def test_what_has_no_average_is_taken_as_it_is_and_said():
    whole = tree("params/a/bias", "ema_params/a/bias", "batch_stats/n/mean", "opt_state/0/mu/a/bias", "ema/a/bias")
    found = source("x", whole, "ema_params")
    assert [tensor.name for tensor in found.tensors] == ["ema_params/a/bias", "batch_stats/n/mean"]
    assert found.dropped == {
        "params/a/bias": "replaced by its moving average", "opt_state/0/mu/a/bias": "optimizer slot",
        "ema/a/bias": "moving average",
    }  # fmt: skip
    assert found.notes == (
        "The parameters were taken from the moving average 'ema_params'; 1 arrays have no average and were taken "
        "unaveraged.",
    )
    other = source("x", tree("params/a/bias", "ema_params/b/bias"), "ema_params")
    assert other.dropped == {"params/a/bias": "not part of 'ema_params'"}
