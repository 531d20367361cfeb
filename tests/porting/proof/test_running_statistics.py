import copy

import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn

from frostline.core.errors import DataError, PortError
from frostline.recipes.port import port


def _conv(ins: int, outs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(ins, outs, 3, 1, 1, bias=False), nn.BatchNorm2d(outs), nn.ReLU())


class Stages(nn.Module):
    """Three convolutions, two of one shape, under names of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.stage0, self.stage1, self.stage2, self.head = _conv(1, 8), _conv(8, 8), _conv(8, 8), nn.Linear(8, 10)

    def forward(self, x):
        return self.head(self.stage2(self.stage1(self.stage0(x))).mean((2, 3)))


def _digits() -> torch.Tensor:
    return torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 16


@pytest.fixture(scope="module")
def source() -> nn.Sequential:
    """A network whose running statistics are those of 400 digits; the weights are random, and channels unlike."""
    torch.manual_seed(0)
    net = nn.Sequential(_conv(1, 8), _conv(8, 8), _conv(8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.3, 1.5)
            nn.init.normal_(module.bias)
    with torch.no_grad():
        for _ in range(3):
            net(_digits()[:400])
    return net


def _saved(folder, net: nn.Module, **changes: torch.Tensor):
    tensors = {name: tensor.clone().contiguous() for name, tensor in net.state_dict().items()}
    save_file(
        tensors | {name.replace("_dot_", "."): tensor for name, tensor in changes.items()}, folder / "net.safetensors"
    )
    return folder / "net.safetensors"


def test_samples_show_that_values_are_distributed_as_the_file_says(source, tmp_path):
    certificate = port(_saved(tmp_path, source), Stages(), golden=(_digits()[500:564], None))
    assert "in 3 of 3 BatchNorm layers, and otherwise in 0" in certificate.tested
    assert [check.status for check in certificate.checks] == ["agrees"] * 3
    assert certificate.runs == ()


def test_exchanged_convolutions_are_refused_and_the_module_keeps_its_weights(source, tmp_path):
    wrong = copy.deepcopy(source)
    wrong[1][0], wrong[2][0] = source[2][0], source[1][0]
    module = Stages()
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(PortError, match="The values that enter 'stage1.1' do not match") as caught:
        port(_saved(tmp_path, wrong), module, golden=(_digits()[500:564], None))
    assert "after 'stage0.1'" in caught.value.do
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in before.items())


def test_samples_in_another_unit_are_refused(source, tmp_path):
    with pytest.raises(PortError, match="values that enter 'stage0.1'") as caught:
        port(_saved(tmp_path, source), Stages(), golden=(_digits()[500:564] * 16, None))
    assert "the preparation of the samples" in caught.value.do


def test_samples_unlike_those_of_the_training_are_told(source, tmp_path):
    pale = _digits()[500:564] * 0.5
    certificate = port(_saved(tmp_path, source), Stages(), golden=(pale, None))
    assert {check.status for check in certificate.checks} == {"unknown"}
    assert "statistics of 'stage0.1', 'stage1.1', 'stage2.1': 64 samples are not conclusive" in str(certificate)


def test_layers_behind_one_that_kept_its_weights_are_not_compared(source, tmp_path):
    class Other(Stages):
        def __init__(self) -> None:
            super().__init__()
            self.between = nn.Linear(8, 8)

        def forward(self, x):
            x = self.stage0(x)
            x = self.between(x.movedim(1, -1)).movedim(-1, 1)
            return self.head(self.stage2(self.stage1(x)).mean((2, 3)))

    path = _saved(tmp_path, source)
    hints = port(path, Stages()).units()
    certificate = port(path, Other(), golden=(_digits()[500:564], None), partial=True, hints=hints)
    assert certificate.kept == ("between",)
    assert [check.layer for check in certificate.checks] == ["stage0.1"]


@pytest.mark.parametrize(("count", "norm"), [(15, nn.BatchNorm2d), (64, nn.InstanceNorm2d)])
def test_too_few_samples_or_nothing_to_compare(source, tmp_path, count, norm):
    net, module = (
        nn.Sequential(nn.Conv2d(1, 4, 3), norm(4, affine=True)),
        nn.Sequential(nn.Conv2d(1, 4, 3), norm(4, affine=True)),
    )
    with pytest.raises(DataError, match="compared with the running statistics of BatchNorm") as caught:
        port(_saved(tmp_path, net), module, golden=(_digits()[:count], None))
    assert f"{count} samples" in caught.value.received


def test_samples_that_the_module_does_not_take(source, tmp_path):
    with pytest.raises(DataError, match="The module cannot be run on these inputs"):
        port(_saved(tmp_path, source), Stages(), golden=(torch.zeros(20, 3), None))
