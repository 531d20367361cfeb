import math

import numpy as np
import pytest

from frostline.porting.scaffold.python_text import decimal, identifier, literal, module_source, short, unused


def test_names_of_a_file_become_identifiers_and_nothing_else():
    assert identifier("block_1/conv2d") == "block_1_conv2d"
    assert identifier('a"); import os; ("') == "a_import_os"
    assert identifier("1") == "layer_1"
    assert identifier("") == "layer"
    for taken in ("forward", "train", "class", "self", "x", "torch", "math"):
        assert identifier(taken) == f"{taken}_"
    assert unused("conv/1", ["conv_1", "conv_1_"]) == "conv_1__"


def test_numbers_are_written_as_short_as_they_are_exact():
    assert decimal(0.0010000000474974513) == "0.001"
    assert float(decimal(1 / 255)) == pytest.approx(1 / 255, rel=1e-14)
    assert np.float32(decimal(float(np.float32(1.2345679)))) == np.float32(1.2345679)
    assert literal(0.0010000000474974513) == "0.001"
    assert literal(1e-300) == "1e-300"
    assert literal(0.1) == "0.1"
    assert (literal(math.inf), literal(-math.inf), literal(math.nan)) == ("math.inf", "-math.inf", "math.nan")
    assert (literal(True), literal(-3)) == ("True", "-3")
    assert short((2, 2)) == "2"
    assert short([2, 1]) == "(2, 1)"


def test_a_module_imports_what_it_uses_and_names_the_file_alone():
    text = module_source(
        file='/secret/place/"""file.onnx', format="ONNX", axes="As in the file.", name="Network",
        inputs={"x": "(2, 3)"}, lines=["x = self.layer(x).clamp(-math.inf)"], outputs=["x"],
        made={"layer": "nn.Linear(3, 3)", "table": 'register_buffer("table", torch.zeros(1), persistent=False)'},
    )  # fmt: skip
    assert text.startswith('"""The network of _file.onnx (ONNX)')
    assert "secret" not in text
    assert "import math\n\nimport torch\nfrom torch import Tensor, nn\n" in text
    assert "import torch.nn.functional" not in text
    assert "        self.layer = nn.Linear(3, 3)\n        self.register_buffer(" in text
    assert text.endswith("        x = self.layer(x).clamp(-math.inf)\n        return x\n")
    compile(text, "module", "exec")
