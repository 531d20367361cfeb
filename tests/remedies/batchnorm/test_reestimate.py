import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import frostline as fl
from frostline import remedies
from helpers_vision import import_torchvision
from remedies.surgeon import undone, untouched


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
                         nn.Linear(4 * 9, 6), nn.BatchNorm1d(6, momentum=None), nn.Linear(6, 2))  # fmt: skip


@given(st.lists(st.integers(2, 7), min_size=1, max_size=5))
def test_statistics_are_those_of_all_samples_however_they_are_batched(sizes):
    x = torch.randn(sum(sizes), 2, 5, 5, generator=torch.Generator().manual_seed(sum(sizes))) * 3 + 5
    model = net()
    remedies.reestimate_batchnorm(model, [(part, None) for part in x.split(sizes)])
    values = model[0](x).double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(model[1].running_mean.double(), values.mean(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model[1].running_var.double(), values.var(1), rtol=1e-5, atol=1e-5)
    assert int(model[1].num_batches_tracked) == len(sizes)


def test_the_model_is_left_as_it_was_and_undo_brings_the_statistics_back():
    model, x = net(), torch.randn(8, 2, 5, 5)
    model[3].eval()
    with undone(model) as changes:
        with untouched(model):
            changes.append(remedies.reestimate_batchnorm(model, DataLoader(TensorDataset(x, x), 4, shuffle=True)))
        assert changes[0].layers == ("1", "6")
        assert model[6].momentum is None
        assert model[1].momentum == 0.1


def test_layers_above_see_batch_statistics_below_and_no_dropout():
    model, x = net().eval(), torch.randn(8, 2, 5, 5)
    remedies.reestimate_batchnorm(model, [x])
    below = torch.relu(nn.functional.batch_norm(model[0](x), None, None, model[1].weight, model[1].bias, training=True))
    torch.testing.assert_close(model[6].running_mean, model[5](below.flatten(1)).mean(0), rtol=1e-4, atol=1e-5)


def test_one_left_over_sample_counts_as_well():
    model = nn.Sequential(nn.BatchNorm1d(3))
    x = torch.randn(9, 3)
    remedies.reestimate_batchnorm(model, x.split(4))
    torch.testing.assert_close(model[0].running_var, x.var(0))


def test_frozen_ones_stay():
    model, x = net(), torch.randn(8, 2, 5, 5)
    fl.freeze(model, through="1")
    mean = model[1].running_mean.clone()
    change = remedies.reestimate_batchnorm(model, [x])
    assert change.layers == ("6",)
    assert change.notes == ("1: frozen, left alone",)
    assert torch.equal(model[1].running_mean, mean)
    model = net()
    model[1].eval()
    assert "1: in inference mode while the model trains" in str(remedies.reestimate_batchnorm(model, [x]))
    model = net()
    model[6].requires_grad_(False)
    assert remedies.reestimate_batchnorm(model, [x]).layers == ("1",)


class Reused(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.never = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
        self.bare = nn.BatchNorm1d(3, track_running_stats=False)

    def forward(self, x, y):
        return self.bare(self.norm(x)) + self.norm(y)


def test_a_norm_that_is_used_twice_is_pooled_and_said():
    model, x, y = Reused(), torch.randn(6, 3), torch.randn(6, 3) + 4
    change = remedies.reestimate_batchnorm(model, [((x, y), None)])
    torch.testing.assert_close(model.norm.running_mean, torch.cat([x, y]).mean(0))
    torch.testing.assert_close(model.norm.running_var, torch.cat([x, y]).var(0))
    text = str(change)
    assert "norm: used several times in one pass" in text
    assert "never: not called in the pass" in text
    assert "bare: keeps no running statistics" in text


def test_inserted_norms_over_the_last_axis_are_measured_there():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    x = torch.randn(5, 7, 4)
    remedies.insert_batchnorm(model, [x])
    remedies.reestimate_batchnorm(model, [x * 2])
    torch.testing.assert_close(model[0].norm.running_mean, model[0].layer(x * 2).flatten(0, 1).mean(0))


def test_cached_features_are_a_training_set(tmp_path):
    x = torch.randn(24, 2, 5, 5)
    dataset = TensorDataset(x, torch.zeros(24).long())
    model = net()
    fl.freeze(model, through="2")
    split = fl.split(model, x[:4])
    data = fl.FeatureCache(tmp_path).fill(split, dataset, progress=False)
    change = remedies.reestimate_batchnorm(split.head, data.loader(5))
    assert len(change.layers) == 1
    below = model[2](model[1](model[0](x))).flatten(1)
    torch.testing.assert_close(model[6].running_var, model[5](below).var(0), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_a_timm_model():
    import_torchvision()
    import timm

    model = timm.create_model("resnet18", pretrained=False)
    assert len(remedies.reestimate_batchnorm(model, [torch.randn(4, 3, 32, 32)]).layers) == 20


def test_what_cannot_be_measured_is_refused_and_nothing_has_changed():
    assert "has no BatchNorm" in str(remedies.reestimate_batchnorm(nn.Linear(2, 2), [torch.randn(2, 2)]))
    model = net()
    before = model[1].running_mean.clone()
    with pytest.raises(fl.DataError, match="to measure are not finite"):
        remedies.reestimate_batchnorm(model, [torch.full((2, 2, 5, 5), torch.inf)])
    with pytest.raises(fl.DataError, match="There are no batches"):
        remedies.reestimate_batchnorm(model, iter([]))
    assert torch.equal(model[1].running_mean, before)
    with pytest.raises(fl.DataError, match="at least two values per channel"):
        remedies.reestimate_batchnorm(nn.Sequential(nn.BatchNorm1d(3)), [torch.randn(1, 3)])


def test_a_norm_without_statistics_is_the_only_note():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False))
    change = remedies.reestimate_batchnorm(model, [torch.randn(8, 4)])
    assert change.layers == ()
    assert len(change.notes) == 1
    assert "1:" in change.notes[0]
    plain = remedies.reestimate_batchnorm(nn.Sequential(nn.Linear(4, 4)), [torch.randn(8, 4)])
    assert plain.notes == ("the model: has no BatchNorm with running statistics",)
