import pytest
import torch

import frostline as fl
from frostline.core.errors import PortError
from frostline.porting.readers.formats import open_source
from frostline.porting.scaffold.keras.call import UNKNOWN, Call
from frostline.porting.scaffold.keras.masks import LOGIC, mask_after
from frostline.porting.scaffold.module_text import module_text
from frostline.porting.scaffold.python_text import NotWrittenError
from helpers_interpreting import floats, network
from helpers_masks import VERSIONS, stored
from helpers_scaffold import built


@pytest.mark.parametrize("version", VERSIONS)
def test_a_network_with_masks_becomes_a_module_that_gives_what_keras_gives(version, tmp_path):
    path, inputs, wanted = stored(version)
    with open_source(path) as (source, _):
        model = built(module_text(source, str(path)), tmp_path).eval()
    certificate = fl.port(path, model)
    assert {one.status for one in certificate.checks if one.setting in ("mask_zero", "mask_value")} == {"agrees"}
    with torch.no_grad():
        found = model(*inputs)
    for (name, expected), made in zip(wanted.items(), found, strict=True):
        assert float((made - expected).abs().max()) <= 2e-6, name


def call(kind, masks, version=3, **config):
    shapes = ((3, 5, 4),) * len(masks)
    inputs = tuple("abc"[: len(masks)])
    return Call("one", kind, {"trainable": True, **config}, shapes, (3, 5, 4), inputs, version, masks=tuple(masks))


def test_masks_are_handed_on():
    assert mask_after(call("Embedding", [""], mask_zero=True)) == "a != 0"
    assert mask_after(call("Embedding", ["m"])) == ""
    assert mask_after(call("Masking", [""], mask_value=-1.5)) == "(a != -1.5).any(-1)"
    assert mask_after(call("Dense", ["m"])) == "m"
    assert mask_after(call("Conv1D", ["m"])) == ""
    assert mask_after(call("Add", ["m", "n"])) == "m | n"
    assert mask_after(call("Add", ["m", "n"], version=2)) == "m & n"
    assert mask_after(call("Add", ["m", ""])) == ""
    assert mask_after(call("Add", ["m", ""], version=2)) == "m"
    assert mask_after(call("Concatenate", ["m", "m"])) == "m"
    assert mask_after(call("Concatenate", ["m", "n"])) == UNKNOWN
    assert mask_after(call("Concatenate", ["m", ""])) == UNKNOWN
    assert mask_after(call("Concatenate", ["m", ""], axis=1)) == (
        "torch.cat([m, torch.ones_like(b[..., 0], dtype=torch.bool)], 1)"
    )


@pytest.mark.parametrize("kind", ["Multiply", "Softmax"])
def test_what_versions_compute_differently_is_not_written(kind):
    source = network(
        ("ids", "InputLayer", {"batch_shape": [None, 4], "dtype": "int32"}, ()),
        ("words", "Embedding", {"input_dim": 5, "output_dim": 3, "mask_zero": True}, ("ids",)),
        ("end", kind, {}, ("words", "words") if kind == "Multiply" else ("words",)),
        words__embeddings=floats(5, 3),
    )
    with pytest.raises(PortError) as caught:
        module_text(source, "file")
    assert "padded steps" in caught.value.received


def test_a_mask_that_nothing_needs_is_not_written():
    source = network(
        ("ids", "InputLayer", {"batch_shape": [None, 4], "dtype": "int32"}, ()),
        ("words", "Embedding", {"input_dim": 5, "output_dim": 3, "mask_zero": True}, ("ids",)),
        ("flat", "Flatten", {}, ("words",)),
        words__embeddings=floats(5, 3),
    )
    assert "mask" not in module_text(source, "file")


def test_attentions_that_share_a_padded_value_are_not_written():
    attention = {"num_heads": 1, "key_dim": 3, "use_bias": False}
    weights = {f"{one}__{part}/kernel": floats(*((3, 1, 3) if part != "attention_output" else (1, 3, 3)))
               for one in ("first", "second") for part in ("query", "key", "value", "attention_output")}  # fmt: skip
    source = network(
        ("ids", "InputLayer", {"batch_shape": [None, 4], "dtype": "int32"}, ()),
        ("words", "Embedding", {"input_dim": 5, "output_dim": 3, "mask_zero": True}, ("ids",)),
        ("first", "MultiHeadAttention", attention, ("words", "words")),
        ("second", "MultiHeadAttention", attention, ("words", "words")),
        ("end", "Add", {}, ("first", "second")),
        words__embeddings=floats(5, 3), **weights,
    )  # fmt: skip
    with pytest.raises(PortError) as caught:
        module_text(source, "file")
    assert caught.value.received.startswith("first (MultiHeadAttention): padded steps")


def test_masks_of_images_are_not_written():
    wide = Call("one", "NotEqual", {}, ((3, 4, 4, 2),), (3, 4, 4, 2), ("x",))
    with pytest.raises(NotWrittenError, match="of more than three axes"):
        LOGIC["NotEqual"](wide)
