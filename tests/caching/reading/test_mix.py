import importlib
import pickle

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl
from helpers_vision import import_torchvision

N = 12


def pictures():
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(N, 3, 8, 8, generator=generator), torch.arange(N) % 4)


def filled(root, *layers, data=None):
    """Stored features of the layers, which are frozen under two that train."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Sequential(*layers), nn.LazyConv2d(2, 1), nn.Flatten(), nn.LazyLinear(4))
    data = pictures() if data is None else data
    model(data.tensors[0][:2])
    fl.freeze(model, through="0")
    split = fl.split(model, data.tensors[0][:4])
    return split, fl.FeatureCache(root).fill(split, data, progress=False)


def halves(inputs, target):
    share = torch.rand(())
    return share * inputs + (1 - share) * inputs.roll(1, 0), target


def test_mixed_rows_are_the_rows_of_mixed_inputs_where_the_frozen_layers_are_linear(tmp_path):
    split, data = filled(tmp_path, nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    loader = data.loader(4, mix=halves, seed=3)
    plain = [features[0] for features, _ in data.loader(4)]
    first, again = [[features[0] for features, _ in one] for one in (loader, data.loader(4, mix=halves, seed=3))]
    assert all(map(torch.equal, first, again))
    assert not any(map(torch.equal, first, plain))
    inputs = pictures().tensors[0][:4]
    shares = torch.linalg.lstsq((plain[0] - plain[0].roll(1, 0)).flatten(1)[0][:, None],
                                (first[0] - plain[0].roll(1, 0)).flatten(1)[0][:, None]).solution  # fmt: skip
    mixture = shares * inputs + (1 - shares) * inputs.roll(1, 0)
    assert torch.allclose(split.extract(mixture)[0], first[0], atol=1e-4)
    second = [features[0] for features, _ in loader]
    assert not torch.equal(second[0], first[0])  # another epoch, other draws


def test_mixup_of_torchvision_acts_there_and_cutmix_does_not(tmp_path):
    import_torchvision()
    v2 = importlib.import_module("torchvision.transforms.v2")
    _, data = filled(tmp_path, nn.Conv2d(3, 4, 3))
    ((features,), target), *_ = data.loader(4, mix=v2.MixUp(num_classes=4))
    assert (features.shape, target.shape) == ((4, 4, 6, 6), (4, 4))
    assert torch.allclose(target.sum(1), torch.ones(4))
    with pytest.raises(fl.DataError, match="Mixed features are not the features of mixed inputs"):
        data.loader(4, mix=v2.CutMix(num_classes=4))
    vectors = TensorDataset(torch.randn(N, 5), torch.arange(N) % 4)
    model = nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 4))
    fl.freeze(model, through="0")
    flat = fl.FeatureCache(tmp_path).fill(fl.split(model, vectors.tensors[0][:4]), vectors, progress=False)
    with pytest.raises(fl.DataError, match="The mix does not take this batch") as error:
        flat.loader(4, mix=v2.MixUp(num_classes=4))
    assert "float32 (8, 5)" in error.value.received


@pytest.mark.parametrize("layers", [(nn.Conv2d(3, 4, 3), nn.ReLU()), (nn.Conv2d(3, 4, 3), nn.MaxPool2d(2))])
def test_layers_that_are_not_linear_refuse_a_mix(tmp_path, layers):
    _, data = filled(tmp_path, *layers)
    with pytest.raises(fl.DataError, match="Mixed features are not the features of mixed inputs") as error:
        data.loader(4, mix=halves)
    assert "the frozen layers are not linear" in error.value.what
    assert "fill(views=K)" in error.value.do


def test_a_mix_that_seldom_acts_is_compared_where_it_acts(tmp_path):
    def seldom(inputs, target):
        return halves(inputs, target) if torch.rand(()) < 0.05 else (inputs, target)

    _, linear = filled(tmp_path / "linear", nn.Conv2d(3, 4, 3))
    assert len(list(linear.loader(4, mix=seldom))) == 3
    _, data = filled(tmp_path / "bent", nn.Conv2d(3, 4, 3), nn.ReLU())
    with pytest.raises(fl.DataError, match="frozen layers are not linear"):
        data.loader(4, mix=seldom)


def test_a_mix_that_writes_into_its_batch_is_compared(tmp_path):
    def in_place(inputs, target):
        inputs.mul_(0.5).add_(0.5 * inputs.roll(1, 0))
        return inputs, target

    _, linear = filled(tmp_path / "linear", nn.Conv2d(3, 4, 3, bias=False))
    assert len(list(linear.loader(4, mix=in_place))) == 3
    _, data = filled(tmp_path / "bent", nn.Conv2d(3, 4, 3), nn.ReLU())
    with pytest.raises(fl.DataError, match="frozen layers are not linear"):
        data.loader(4, mix=in_place)


def test_positive_inputs_do_not_hide_an_activation(tmp_path):
    layers = (nn.Conv2d(3, 3, 1), nn.ReLU())
    nn.init.ones_(layers[0].weight)
    nn.init.ones_(layers[0].bias)
    positive = TensorDataset(pictures().tensors[0].abs(), pictures().tensors[1])
    _, data = filled(tmp_path, *layers, data=positive)
    with pytest.raises(fl.DataError, match="frozen layers are not linear"):
        data.loader(4, mix=halves)


def test_integers_are_not_mixed(tmp_path):
    torch.manual_seed(0)
    data = TensorDataset(torch.randint(0, 9, (N, 5)), torch.arange(N) % 2)
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, 2))
    fl.freeze(model, through="0")
    rows = fl.FeatureCache(tmp_path).fill(fl.split(model, data.tensors[0][:4]), data, progress=False)
    with pytest.raises(fl.DataError, match="Integers cannot be mixed") as error:
        rows.loader(4, mix=halves)
    assert "inputs int64 (8, 5)" in error.value.received


def test_what_is_no_mix_is_refused(tmp_path):
    _, data = filled(tmp_path, nn.Conv2d(3, 4, 3))
    with pytest.raises(fl.DataError, match=r"A transform that mixes gives \(inputs, target\)"):
        data.loader(4, mix=lambda features, target: features)
    with pytest.raises(fl.DataError, match="mix"):
        data.loader(4, mix="mixup")
    copy = pickle.loads(pickle.dumps(data))
    with pytest.raises(fl.DataError, match="Only the process that has filled the cache can check a mix"):
        copy.loader(4, mix=halves)


def test_several_tensors_are_not_mixed(tmp_path):
    class Masked(torch.utils.data.Dataset):
        def __len__(self):
            return N

        def __getitem__(self, index):
            return {"x": pictures().tensors[0][index], "y": torch.ones(3)}, index % 4

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 4)

        def forward(self, x, y):
            return self.head(self.body(x).mean(dim=(2, 3)) * y.sum(1, keepdim=True))

    model = Two()
    fl.freeze(model, through="body")
    example = {"x": torch.randn(4, 3, 8, 8), "y": torch.ones(4, 3)}
    data = fl.FeatureCache(tmp_path).fill(fl.split(model, example), Masked(), progress=False)
    with pytest.raises(fl.DataError, match="A batch is mixed where it is one tensor"):
        data.loader(4, mix=halves)
