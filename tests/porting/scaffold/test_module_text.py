from dataclasses import replace
from pathlib import Path

import pytest

from frostline.core.errors import PortError
from frostline.porting.readers.formats import open_source
from frostline.porting.scaffold.module_text import module_text
from helpers_interpreting import network

FILES = Path(__file__).parents[1] / "files"


@pytest.mark.parametrize(
    ("path", "first"),
    [("networks/keras/depthwise/model.keras", "nn.Conv2d("), ("networks/onnx/square_dense/model.onnx", "nn.Linear(")],
)
def test_both_kinds_of_files_become_a_module(path, first):
    with open_source(FILES / path) as (source, _):
        text = module_text(source, path, "Backbone")
    assert first in text
    assert "class Backbone(nn.Module):" in text


def test_a_layer_that_is_not_written_is_named_with_what_to_do():
    source = network(("in", "InputLayer", {"batch_shape": [None, 3]}, ()), ("end", "Lambda", {}, ("in",)))
    with pytest.raises(PortError, match="No module can be written for this network") as caught:
        module_text(source, "file")
    assert caught.value.received == "end (Lambda)"
    assert "model.export('model.onnx', format='onnx')" in caught.value.do
    assert "onnx.utils" not in caught.value.do


def test_an_operator_that_is_not_written_is_named_with_the_tools_of_onnx():
    source = replace(network(("end", "FancyOperator", {"input": [], "output": ["y"]}, ())), framework="onnx")
    with pytest.raises(PortError, match="No module can be written for this network") as caught:
        module_text(source, "file")
    assert "onnx.utils.extract_model" in caught.value.do
    assert "Keras" not in caught.value.do


@pytest.mark.parametrize(
    ("path", "export"),
    [("keras3/block.weights.h5", ".keras file"), ("torch/state.pt", "torch.onnx.export"),
     ("haiku/gru.npz", "jax2onnx"), ("paddle/protocol4.pdparams", "paddle2onnx")],
)  # fmt: skip
def test_a_file_without_an_architecture_is_refused_with_the_way_of_its_framework(path, export):
    with open_source(FILES / path) as (source, _), pytest.raises(PortError, match="it states no archit") as caught:
        module_text(source, "file")
    assert export in caught.value.do
    assert "Keras on TensorFlow" not in caught.value.do


def test_a_network_with_lora_is_saved_without_it_first():
    source = network(("in", "InputLayer", {"batch_shape": [None, 3]}, ()), ("fc", "Dense", {"lora_rank": 8}, ("in",)))
    with pytest.raises(PortError, match="No module can be written") as caught:
        module_text(source, "file")
    assert "again without LoRA" in caught.value.do
