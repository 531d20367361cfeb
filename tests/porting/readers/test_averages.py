import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import frostline as fl
from frostline.core.errors import PortError
from frostline.porting.readers.averages import is_average, select
from frostline.porting.readers.formats import open_source
from frostline.porting.readers.weight_file import WeightFile

FILES = Path(__file__).parents[1] / "files"


@pytest.fixture
def taken(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    with WeightFile(tmp_path / "a") as file:
        yield lambda names, key=None: select(file, names, key)


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def trained():
    """A network, and the averages of its parameters that PyTorch itself has made while it trained."""
    torch.manual_seed(0)
    model = network()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(3):
        model(torch.randn(8, 3)).square().sum().backward()
        optimizer.step()
        average.update_parameters(model)
    return model, average


@pytest.mark.parametrize("name", ["ema", "model_ema", "params_ema", "EMA", "state_dict_ema", "swa_model"])
def test_what_is_called_an_average(name):
    assert is_average(name)
    assert not is_average("schema")
    assert not is_average("emanate")


def test_weights_are_taken_unless_averages_are_asked_for(taken):
    names = ["model.a.weight", "ema.a.weight", "ema.decay"]
    found = taken(names)
    assert found.own == {"model.a.weight": "model.a.weight"}
    assert found.dropped == {"ema.a.weight": "moving average", "ema.decay": "moving average"}
    assert "2 tensors are moving averages of the weights and were left out (key='ema'" in found.notes[0]
    average = taken(names, "ema")
    assert average.own == {"ema.a.weight": "model.a.weight"}
    assert average.dropped == {"model.a.weight": "replaced by its moving average", "ema.decay": "counter"}
    assert average.notes == ("1 tensors were taken from the moving average 'ema'.",)


def test_averages_that_stand_alone_are_the_weights(taken):
    found = taken(["ema.a.weight", "ema.a.bias"])
    assert len(found.own) == 2
    assert (found.dropped, found.notes) == ({}, ())
    assert taken(["ema.a.weight", "decay"]).dropped == {"decay": "counter"}
    assert taken(["step", "decay"]).dropped == {}


def test_a_layer_that_is_called_as_averages_are_is_a_layer(taken):
    """A target network of its own shapes; without a twin for each tensor it is no average."""
    assert taken(["a.weight", "ema_encoder.b.weight"]).dropped == {}
    assert set(taken(["a.weight", "ema_encoder.a.weight"]).dropped) == {"ema_encoder.a.weight"}


def test_weights_without_average_are_taken_as_they_are_and_named(taken):
    names = ["net.a.weight", "net.n.running_mean", "model_ema.a.weight", "swa_model.a.weight"]
    found = taken(names, "model_ema")
    assert found.own == {"net.n.running_mean": "net.n.running_mean", "model_ema.a.weight": "net.a.weight"}
    assert found.dropped == {"net.a.weight": "replaced by its moving average", "swa_model.a.weight": "moving average"}
    assert found.notes == (
        "1 tensors were taken from the moving average 'model_ema'; 1 have no average and were taken unaveraged, such "
        "as net.n.running_mean.",
    )


def test_averages_of_something_else_are_taken_alone(taken):
    found = taken(["a.weight", "ema.b.weight"], "ema")
    assert found.own == {"ema.b.weight": "b.weight"}
    assert found.dropped == {"a.weight": "another entry of the checkpoint"}


def test_names_without_dots_are_those_of_their_weights(taken):
    """CompVis' LitEma takes the dots out of the names."""
    names = ["model.unet.in.0.weight", "model.unet.in.0.bias", "first.weight", "model_ema.decay",
             "model_ema.num_updates", "model_ema.unetin0weight", "model_ema.unetin0bias"]  # fmt: skip
    found = taken(names, "model_ema")
    assert found.own == {
        "first.weight": "first.weight", "model_ema.unetin0weight": "model.unet.in.0.weight",
        "model_ema.unetin0bias": "model.unet.in.0.bias",
    }  # fmt: skip
    assert set(taken(names).own) == set(names[:3])


def test_very_many_names_take_no_more_than_a_look_each(taken):
    names = [f"{first}.block.{at}.weight" for first in ("net", "slow_ema") for at in range(50_000)]
    assert len(taken(names).own) == 50_000
    assert len(taken(names, "slow_ema").own) == 50_000
    many = [f"ema_{at}.weight" for at in range(20_000)]
    assert len(taken(many).own) == 20_000


def test_any_other_part_is_taken_alone(taken):
    found = taken(["a.b.weight", "c.weight"], "a")
    assert found.own == {"a.b.weight": "b.weight"}
    assert found.dropped == {"c.weight": "another entry of the checkpoint"}
    with pytest.raises(PortError, match="no weights under 'ema'") as caught:
        taken(["a.b.weight", "c.weight"], "ema")
    assert "'a'" in caught.value.do
    with pytest.raises(PortError) as caught:
        taken(["weight"], "ema")
    assert caught.value.do == "leave out key=: no name in the file has a prefix."


def written(folder, kind):
    """Both under one roof, as trainers write them; the key that takes the averages."""
    model, average = trained()
    weights, averages = model.state_dict(), average.state_dict()
    flat = {f"model.{name}": tensor for name, tensor in weights.items()}
    of_parameters = {name: averages[f"module.{name}"].clone() for name, _ in model.named_parameters()}
    path, key = folder / "w.pt", "ema"
    if kind == "flat safetensors":
        path = folder / "w.safetensors"
        save_file({**flat, **{f"ema.{name}": tensor for name, tensor in averages.items()}}, path)
    elif kind == "flat npz":
        path = folder / "w.npz"
        np.savez(path, **{**flat, **{f"ema.{name}": tensor for name, tensor in averages.items()}})
    elif kind == "safetensors in shards":
        save_file(flat, folder / "1.safetensors")
        save_file(own := {f"ema.{name}": tensor for name, tensor in averages.items()}, folder / "2.safetensors")
        path = folder / "model.safetensors.index.json"
        places = {**dict.fromkeys(flat, "1.safetensors"), **dict.fromkeys(own, "2.safetensors")}
        path.write_text(json.dumps({"weight_map": places}))
    elif kind == "parameters alone":
        torch.save({**flat, **{f"ema.{name}": tensor for name, tensor in of_parameters.items()}}, path)
    elif kind == "flat inside of an entry":
        key = "model_ema"
        inner = {f"model_ema.{name.replace('.', '')}": tensor for name, tensor in of_parameters.items()}
        counters = {"model_ema.decay": torch.tensor(0.5), "model_ema.num_updates": torch.tensor(3)}
        torch.save({"state_dict": {**flat, **inner, **counters}, "epoch": 3}, path)
    else:
        key = "state_dict_ema"
        torch.save({"state_dict": weights, key: averages, "epoch": 3}, path)
    return path, key, model, average.module


KINDS = ["flat safetensors", "flat npz", "safetensors in shards", "parameters alone", "flat inside of an entry", "timm"]


@pytest.mark.parametrize("kind", KINDS)
def test_either_is_ported_and_the_certificate_says_which(tmp_path, kind):
    path, key, model, average = written(tmp_path, kind)
    own, parameters = network(), dict(average.named_parameters())
    plain = fl.port(path, own)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in own.state_dict().items())
    assert "moving average" in plain.dropped.values()
    assert plain.key == ""
    taken_from = fl.port(path, own, key=key)
    assert all(torch.equal(tensor, parameters[name]) for name, tensor in own.named_parameters())
    assert taken_from.key == key
    assert set(taken_from.dropped.values()) & {"replaced by its moving average", "another entry of the checkpoint"}
    assert not any(torch.equal(tensor, dict(model.named_parameters())[name]) for name, tensor in parameters.items())
    used = {name for one in taken_from.mapping for name in one.sources}
    assert not used & set(taken_from.dropped)
    mixed = [name for name in used if key not in name and kind != "timm"]
    if mixed:
        assert "have no average and were taken unaveraged" in " ".join(taken_from.notes)
        assert all("running" in name or "num_batches" in name for name in mixed)


@pytest.mark.parametrize("kind", KINDS)
def test_reuse_takes_either(tmp_path, kind):
    path, key, _, average = written(tmp_path, kind)
    own = network()
    summary = fl.reuse(path, own, key=key)
    assert not summary.new
    parameters = dict(average.named_parameters())
    assert all(torch.equal(tensor, parameters[name]) for name, tensor in own.named_parameters())


def test_a_saved_average_of_pytorch_has_a_counter(tmp_path):
    _, average = trained()
    torch.save(average.state_dict(), tmp_path / "w.pt")
    own = network()
    certificate = fl.port(tmp_path / "w.pt", own)
    assert certificate.dropped == {"n_averaged": "counter"}
    assert torch.equal(own[0].weight, average.module[0].weight)


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.norm, self.conv = nn.Linear(4, 5), nn.BatchNorm2d(4), nn.Conv2d(2, 4, 3)

    def forward(self, x):
        return self.fc(self.norm(self.conv(x)).relu().mean((2, 3)))


@pytest.mark.parametrize("key", ["params", "ema_params"])
def test_averages_of_flax_with_the_statistics_of_the_weights(key):
    with np.load(FILES / "averages" / "flax.npz") as golden:
        inputs, outputs = torch.tensor(golden["inputs"]).movedim(-1, 1), torch.tensor(golden[key])
    given = None if key == "params" else key
    certificate = fl.port(FILES / "averages" / "flax.msgpack", Own(), golden=(inputs, outputs), key=given)
    assert certificate.runs
    if given:
        assert "2 arrays have no average and were taken unaveraged" in " ".join(certificate.notes)


WITHOUT_ENTRIES = (
    "keras3/block.weights.h5 networks/keras/depthwise/model.keras onnx/beside.onnx darknet/net.weights "
    "caffe/net.caffemodel mxnet/net-0003.params tfjs/layers/model.json tensorflow/tfkeras.index "
    "tensorflow/names.ckpt.index plain/one.npy plain/network.npz paddle/inference.pdiparams"
).split()


@pytest.mark.parametrize("name", WITHOUT_ENTRIES)
def test_a_key_is_never_passed_over(name):
    with pytest.raises(PortError) as caught, open_source(FILES / name, "ema"):
        pass
    assert "leave the key out" in caught.value.do or "key=" in caught.value.do
