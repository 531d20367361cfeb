import json

import torch
from safetensors.torch import load_file
from torch import nn

from frostline.recipes.save import save_model


def test_a_model_is_two_files_and_loads_back(tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    path = save_model(model, tmp_path / "new" / "folder", {"classes": ["a", "b"]})
    assert sorted(file.name for file in path.parent.iterdir()) == ["model.json", "model.safetensors"]
    assert json.loads((path.parent / "model.json").read_text()) == {"classes": ["a", "b"]}
    loaded = load_file(path)
    assert set(loaded) == set(model.state_dict())
    assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items())


def test_tied_and_transposed_tensors_are_written_under_each_name(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    model.register_buffer("turned", torch.arange(6.0).view(2, 3).t())
    loaded = load_file(save_model(model, tmp_path, {}))
    assert torch.equal(loaded["0.weight"], loaded["1.weight"])
    assert torch.equal(loaded["turned"], model.turned)


def test_saving_again_replaces_what_was_there(tmp_path):
    model = nn.Linear(2, 2)
    save_model(model, tmp_path, {"epoch": 1})
    with torch.no_grad():
        model.weight += 1
    loaded = load_file(save_model(model, tmp_path, {"epoch": 2}))
    assert torch.equal(loaded["weight"], model.weight)
    assert len(list(tmp_path.iterdir())) == 2
