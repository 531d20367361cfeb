import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from frostline.core.errors import PortError
from frostline.recipes.port import port


class Language(nn.Module):
    """An embedding, and a head that reads it backwards."""

    def __init__(self, *, is_tied: bool, has_bias: bool = False) -> None:
        super().__init__()
        self.embed, self.middle = nn.Embedding(20, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 20, bias=has_bias)
        if is_tied:
            self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(self.middle(self.embed(x)).relu())


def _saved(folder, model: nn.Module, *without: str):
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items() if name not in without}
    save_file(tensors, folder / "net.safetensors")
    return folder / "net.safetensors"


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("without", [(), ("head.weight",)])
def test_a_weight_that_the_module_shares_comes_from_one_tensor_or_two_equal_ones(tmp_path, has_bias, without):
    source, module = (Language(is_tied=True, has_bias=has_bias) for _ in range(2))
    certificate = port(_saved(tmp_path, source, *without), module)
    assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in module.state_dict().items())
    assert module.head.weight is module.embed.weight
    assert bool(without) == any("head.weight is embed.weight" in note for note in certificate.notes)


def test_different_values_for_what_the_module_shares_are_refused_and_nothing_changes(tmp_path):
    module = Language(is_tied=True)
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(PortError, match="different values for weights that the module shares, such as 'embed.weight'"):
        port(_saved(tmp_path, Language(is_tied=False)), module)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_a_module_that_does_not_share_what_the_file_has_once_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(PortError, match="different numbers of layers") as caught:
        port(_saved(tmp_path, Language(is_tied=True), "head.weight"), Language(is_tied=False))
    assert "head.weight = embedding.weight" in caught.value.do


def test_a_view_of_another_layers_weight_is_memory_that_is_shared(tmp_path):
    module = Language(is_tied=False)
    module.head.weight = nn.Parameter(module.embed.weight.detach())
    with pytest.raises(PortError, match="that the module shares"):
        port(_saved(tmp_path, Language(is_tied=False)), module)
