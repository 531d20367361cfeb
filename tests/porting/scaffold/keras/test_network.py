from dataclasses import replace
from pathlib import Path

import pytest
import torch

import frostline as fl
from frostline.core.errors import PortError
from frostline.porting.readers.formats import open_source
from frostline.porting.scaffold.module_text import module_text
from helpers_interpreting import floats, network
from helpers_scaffold import built, filled

FILES = Path(__file__).parents[2] / "files"


@pytest.mark.parametrize(
    "path",
    ["interpreting/branches.keras", "networks/keras/depthwise/model.keras"],
    ids=lambda path: path.split("/")[-2],
)
def test_a_file_becomes_a_module_that_the_port_fills(path, tmp_path):
    with open_source(FILES / path) as (source, _):
        text = module_text(source, path)
    assert text.startswith(f'"""The network of {Path(path).name} (Keras 3 archive): written by Frostline')
    certificate = fl.port(FILES / path, built(text, tmp_path))
    assert certificate.runs[0].error <= 1e-5
    assert {check.status for check in certificate.checks} <= {"agrees"}


def test_shared_layers_nested_names_and_several_outputs(tmp_path):
    source = network(
        ("left", "InputLayer", {"batch_shape": [None, 3]}, ()), ("right", "InputLayer", {"batch_shape": [None, 3]}, ()),
        ("part/fold", "Dense", {"use_bias": False, "activation": "tanh"}, ("left",)),
        ("part.fold", "Dense", {"use_bias": False}, ("right",)),
        ("train", "Add", {}, ("part/fold", "part.fold")),
        **{"part/fold__kernel": floats(3, 4), "part.fold__kernel": floats(3, 4, seed=1)},
    )  # fmt: skip
    text = module_text(source, "file")
    assert "self.part_fold = nn.Linear(3, 4, bias=False)" in text
    assert "self.part_fold_ = nn.Linear(3, 4, bias=False)" in text
    model, one, two = filled(source, tmp_path), floats(5, 3), floats(5, 3, seed=2)
    wanted = (one @ floats(3, 4)).tanh() + two @ floats(3, 4, seed=1)
    assert torch.allclose(model(one, two), wanted, atol=1e-6)


def test_an_output_that_other_layers_take_is_kept(tmp_path):
    source = network(
        ("in", "InputLayer", {"batch_shape": [None, 3]}, ()),
        ("half", "Rescaling", {"scale": 0.5, "offset": 0}, ("in",)),
        ("hidden", "Dense", {"use_bias": False}, ("half",)), ("end", "ReLU", {}, ("hidden",)),
        hidden__kernel=floats(3, 4),
    )  # fmt: skip
    model = filled(replace(source, inputs=("in",), outputs=("end", "hidden")), tmp_path)
    end, hidden = model(floats(2, 3))
    assert torch.equal(end, hidden.relu())
    assert not torch.equal(end, hidden)


def test_nothing_of_a_file_but_letters_and_numbers_comes_into_the_text():
    name = 'x"""\n    import os\n    """'
    source = network(
        ("in", "InputLayer", {"batch_shape": [None, 3]}, ()),
        (name, "Dense", {"use_bias": False, "activation": "relu"}, ("in",)), **{f"{name}__kernel": floats(3, 4)},
    )  # fmt: skip
    text = module_text(source, "file")
    assert "import os" not in text
    assert "self.x_import_os = nn.Linear(3, 4, bias=False)" in text


@pytest.mark.parametrize(
    ("kind", "config", "why"),
    [("Lambda", {}, "end (Lambda)"), ("ReLU", {"threshold": 1.0}, "end (ReLU): a threshold")],
)  # fmt: skip
def test_a_network_with_other_layers_is_refused(kind, config, why):
    source = network(("in", "InputLayer", {"batch_shape": [None, 3]}, ()), ("end", kind, config, ("in",)))
    with pytest.raises(PortError, match="No module can be written for this network") as caught:
        module_text(source, "file")
    assert caught.value.received == why
