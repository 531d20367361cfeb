import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from frostline.core.errors import PortError
from frostline.recipes.port import port


class Probabilities(nn.Module):
    def __init__(self, shift):
        super().__init__()
        self.one, self.two, self.out = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False), nn.Linear(8, 3)
        self.shift = torch.tensor([shift, 0.0, 0.0])

    def forward(self, x):
        return torch.softmax(self.out(self.two(self.one(x).relu())) + self.shift, -1)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.main, self.aux = nn.Linear(4, 2), nn.Linear(4, 3)

    def forward(self, x):
        return self.main(x), self.aux(x)


def saved(tmp_path, source):
    path = tmp_path / "f.safetensors"
    save_file({name: value.clone() for name, value in source.state_dict().items()}, path)
    return path


def test_outputs_that_are_all_zero_or_one_prove_nothing(tmp_path):
    torch.manual_seed(0)
    source, x = Probabilities(60.0), torch.randn(16, 8)
    golden = (x, source(x).detach())
    source.one.weight.data, source.two.weight.data = source.two.weight.data, source.one.weight.data
    source.out.weight.data *= 7
    with pytest.raises(PortError, match="These outputs do not depend on the weights") as caught:
        port(saved(tmp_path, source), Probabilities(60.0), golden=golden)
    assert caught.value.received == "probabilities that are all 0 or 1"


def test_outputs_that_show_the_weights_are_a_proof(tmp_path):
    source, x = Probabilities(0.0), torch.randn(16, 8)
    (run,) = port(saved(tmp_path, source), Probabilities(0.0), golden=(x, source(x).detach())).runs
    assert (run.silent, run.extra) == ((), 0)


def test_layers_behind_outputs_that_were_not_compared_are_listed(tmp_path):
    source, x = Two(), torch.randn(5, 4)
    model = Two()
    model.aux.requires_grad_(False)
    certificate = port(saved(tmp_path, source), model, golden=(x, source(x)[0].detach()))
    (run,) = certificate.runs
    assert (run.silent, run.extra) == (("aux",), 1)
    assert "but hardly depend on 'aux'; 1 further outputs of the module were not compared" in certificate.tested
    assert "whether 'aux' compute the same as in the source network" in certificate.unknown
    assert not model.aux.weight.requires_grad
    assert model.main.weight.grad is None


def test_layers_that_get_no_signal_are_listed(tmp_path):
    source = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    source[0].bias.data -= 100  # no unit of it is ever above zero
    x = torch.randn(5, 4)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    assert port(saved(tmp_path, source), model, golden=(x, source(x).detach())).runs[0].silent == ("0",)


def test_a_module_without_gradients_is_not_judged(tmp_path):
    class Detached(nn.Sequential):
        def forward(self, x):
            return super().forward(x).detach()

    source, x = Detached(nn.Linear(4, 2)), torch.randn(5, 4)
    assert port(saved(tmp_path, source), Detached(nn.Linear(4, 2)), golden=(x, source(x))).runs[0].silent == ()


def test_a_group_norm_on_channels_last_images_is_looked_at(tmp_path):
    source, target = (nn.Sequential(nn.GroupNorm(2, 8), nn.Conv2d(8, 3, 1)) for _ in range(2))
    images = torch.randn(2, 5, 5, 8).movedim(-1, 1)
    path = saved(tmp_path, source)
    (run,) = port(path, target, golden=((images,), [source(images).detach()])).runs
    assert run.silent == ()
    assert not images.requires_grad


def test_a_module_that_adds_its_input_to_detached_values_is_not_judged(tmp_path):
    class Added(nn.Sequential):
        def forward(self, x):
            return x + super().forward(x).detach()

    source, x = Added(nn.Linear(4, 4)), torch.randn(5, 4)
    assert port(saved(tmp_path, source), Added(nn.Linear(4, 4)), golden=(x, source(x))).runs[0].silent == ()


def test_gradients_are_asked_of_values_in_the_order_of_their_axes(tmp_path):
    # A convolution of 1 x 1 with strides ends the process of PyTorch 2.13 in its backward pass of channels-last values.
    seen = []
    layers = nn.Conv2d(8, 16, 1, stride=2, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2)
    source = nn.Sequential(*layers)
    source.register_forward_pre_hook(
        lambda _, inputs: seen.append((inputs[0].requires_grad, inputs[0].is_contiguous()))
    )
    x = torch.randn(3, 6, 6, 8).movedim(-1, 1)
    golden = (x, source(x).detach())
    seen.clear()
    port(saved(tmp_path, source), source, golden=golden)
    assert (True, True) in seen
    assert (True, False) not in seen


def test_gradients_are_not_held_beside_each_other(tmp_path, monkeypatch):
    source, x = nn.Sequential(*[nn.Linear(64, 64) for _ in range(4)]), torch.randn(5, 64)
    given, grad = [], torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *args, **kw: given.append(grad(*args, **kw)) or given[-1])
    model = nn.Sequential(*[nn.Linear(64, 64) for _ in range(4)])
    (run,) = port(saved(tmp_path, source), model, golden=(x, source(x).detach())).runs
    weights = [one for one in given[-1] if one is not None and one.shape == (64, 64)]
    assert (len(weights), run.silent) == (4, ())
    assert {one.untyped_storage().nbytes() for one in weights} == {4}
    assert all(not weight._backward_hooks for weight in model.parameters())
