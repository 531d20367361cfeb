import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.selection import INPUTS, Taps, find_lines
from frostline.selection.pooled_features import pooled
from frostline.selection.taps import ENERGY
from helpers_selection import ResNet, images


def tapped(model, x):
    lines = find_lines(model.eval(), x)
    fl.freeze(model, through=lines[-1].through)
    split = fl.split(model, x)
    return Taps(model, split, lines, x), split, lines


def test_each_tap_gives_what_the_layer_above_its_line_is_given():
    model, x = ResNet(), images()[0][:4]
    taps, split, _ = tapped(model, x)
    assert [tensor.name for tensor in taps.frontier] == [INPUTS, "bn", "blocks.0", "blocks.1", "blocks", ENERGY]
    found = dict(zip([tensor.name for tensor in taps.frontier], taps.extract(x), strict=True))
    stem = model.bn(model.conv(x)).relu()
    torch.testing.assert_close(found["bn"], pooled(stem, 4, is_sequence=False)[0])
    torch.testing.assert_close(found["blocks.0"], pooled(model.blocks[0](stem), 4, is_sequence=False)[0])
    torch.testing.assert_close(found["blocks"], split.extract(x)[0])


def test_the_recipe_is_that_of_the_deepest_split_and_the_taps():
    model, x = ResNet(), images()[0][:4]
    taps, split, _ = tapped(model, x)
    assert taps.recipe.items() >= split.recipe.items()
    assert "blocks.1@blocks.2.conv1" in taps.recipe["taps"]
    with torch.no_grad():
        model.blocks[1].conv1.weight[0, 0, 0, 0] += 1
    fl.thaw(model)
    other, _, _ = tapped(model, x)
    assert other.recipe != taps.recipe


def test_energies_are_one_on_the_data_of_the_statistics_and_more_on_others():
    torch.manual_seed(0)
    model, (x, _) = ResNet(), images(200)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None
    model.train()(x)
    taps, _, lines = tapped(model, x)
    assert len(taps.norms) == 7
    near, far = taps.extract(x)[-1].mean(0), taps.extract(3 * x)[-1].mean(0)
    torch.testing.assert_close(near[0], torch.tensor(1.0), rtol=0.02, atol=0)
    assert far[0] > 5
    assert taps.norms_below(lines[1]) == [0]
    assert taps.norms_below(lines[-1]) == [0, 1, 2, 3, 4, 5, 6]


def test_rows_are_stored_and_not_computed_again(tmp_path):
    model, (x, y) = ResNet(), images()
    taps, _, _ = tapped(model, x[:4])
    cache = fl.FeatureCache(tmp_path)
    first = cache.fill(taps, TensorDataset(x, y), progress=False)
    assert first.figures.computed == 60
    again = cache.fill(tapped(model, x[:4])[0], TensorDataset(x, y), progress=False)
    assert (again.figures.computed, again.figures.reused) == (0, 60)


def test_what_a_split_would_refuse_is_refused_when_it_is_stored(tmp_path):
    model, (x, y) = ResNet(), images()
    taps, _, _ = tapped(model, x[:4])
    with torch.no_grad():
        model.conv.weight += 1
    with pytest.raises(fl.SplitError, match="was changed after the model was split"):
        fl.FeatureCache(tmp_path).fill(taps, TensorDataset(x, y), progress=False)


def test_the_model_is_left_as_it_was():
    model, x = ResNet(), images()[0][:4]
    taps, _, _ = tapped(model, x)
    model.train()
    modes = [module.training for module in model.modules()]
    taps.extract(x)
    assert modes == [module.training for module in model.modules()]
    assert all(not module._forward_pre_hooks for module in model.modules())


def test_tokens_are_no_features_and_sequences_have_their_channels_first():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.conv, self.fc = nn.Embedding(20, 6), nn.Conv1d(6, 5, 3, padding=1), nn.Linear(5, 2)

        def forward(self, ids):
            return self.fc(self.conv(self.table(ids).transpose(1, 2)).mean(2))

    model, ids = Words(), torch.randint(0, 20, (4, 9))
    taps, _, _ = tapped(model, ids)
    assert [(tensor.name, tensor.shape) for tensor in taps.frontier] == [("table", (6 + 12,)), ("conv", (5,))]
