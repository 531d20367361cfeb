import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import frostline as fl
from frostline import remedies
from frostline.remedies.batchnorm.fold import merge_after, merge_before, write
from helpers_vision import import_torchvision
from remedies.surgeon import undone, untouched


def lived_in(model: nn.Module) -> nn.Module:
    """The model as if it had been trained: no BatchNorm is the identity."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_var is not None:
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                if module.weight is not None:
                    module.weight.uniform_(0.5, 1.5)
                    module.bias.normal_()
    return model.eval()


def net() -> nn.Sequential:
    return lived_in(nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 6, 2, groups=2),
        nn.BatchNorm2d(6), nn.ReLU(), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(4 * 25, 5),
        nn.BatchNorm1d(5), nn.Tanh(), nn.BatchNorm1d(5), nn.Linear(5, 2)))  # fmt: skip


def test_folding_keeps_the_outputs_and_is_undone_to_the_bit():
    model, x = net(), torch.randn(4, 3, 6, 6)
    with torch.no_grad():
        before = model(x)
    with undone(model) as changes:
        with untouched(model):
            certificate = remedies.fold_batchnorm(model, x)
        changes.append(certificate.change)
        assert certificate.folded == ("1", "4", "6", "10", "12")
        assert certificate.change.layers == ("0", "3", "7", "9", "13")
        assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
        with torch.no_grad():
            torch.testing.assert_close(model(torch.cat([x, x]))[:4], before, rtol=1e-4, atol=1e-5)
        assert certificate.largest_difference < 1e-5
        assert certificate.speed_up > 0
        assert "5 BatchNorms folded, 0 refused" in str(certificate)


def test_what_was_inserted_can_be_folded_away_again():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
    x = torch.randn(5, 7, 4)
    before = model(x)
    remedies.insert_batchnorm(model, [x])
    assert remedies.fold_batchnorm(model, x).folded == ("0.norm",)
    torch.testing.assert_close(model(x), before, rtol=1e-4, atol=1e-5)


def test_frozen_parameters_stay_frozen():
    model = net()
    fl.freeze(model, through="1")
    remedies.fold_batchnorm(model, torch.randn(4, 3, 6, 6))
    assert not model[0].bias.requires_grad
    model.train()
    assert not model[1].training


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "num_folded", "num_refused"), [("resnet18", 20, 0), ("mobilenetv3_small_100", 34, 0),
                                                                 ("densenet121", 59, 62)])  # fmt: skip
def test_timm_models_and_their_fused_activations(name, num_folded, num_refused):
    import_torchvision()
    import timm

    model = lived_in(timm.create_model(name, pretrained=False))
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = model(x)
        certificate = remedies.fold_batchnorm(model, x)
        assert (len(certificate.folded), len(certificate.refused)) == (num_folded, num_refused)
        apart = (model(x) - before).abs().max() / before.abs().max()
    assert apart < 1e-5


class Awkward(nn.Module):
    """Every reason not to fold, once."""

    def __init__(self):
        super().__init__()

        def conv(padding=0, **options):
            return nn.Conv2d(2, 2, 3, padding=padding, **options)

        self.branching, self.norm_branching = conv(1), nn.BatchNorm2d(2)
        self.shared, self.norm_a, self.norm_b = conv(1), nn.BatchNorm2d(2), nn.BatchNorm2d(2)
        self.norm_twice = nn.BatchNorm2d(2)
        self.norm_padded, self.padded = nn.BatchNorm2d(2), conv(1)
        self.norm_same, self.same = nn.BatchNorm2d(2), conv("same")
        self.norm_up, self.up = nn.BatchNorm2d(2), nn.ConvTranspose2d(2, 2, 3, padding=1)
        self.weighted, self.norm_weighted = nn.utils.parametrizations.weight_norm(conv(1)), nn.BatchNorm2d(2)
        self.hooked, self.norm_hooked = conv(1), nn.BatchNorm2d(2)
        self.hooked.register_forward_hook(lambda *_: None)
        self.tied, self.tied_again, self.norm_tied = conv(1), conv(1), nn.BatchNorm2d(2)
        self.tied_again.weight = self.tied.weight
        self.borrowed, self.norm_borrowed = conv(1), nn.BatchNorm2d(2)
        self.bare = nn.BatchNorm2d(2, track_running_stats=False)
        self.own = Own(2)
        self.tokens, self.norm_tokens = nn.Linear(6, 6), nn.BatchNorm1d(12)
        self.norm_after = nn.BatchNorm1d(12)
        self.norm_unused = nn.BatchNorm2d(2)

    def forward(self, x):
        y = self.branching(x)
        y = self.norm_branching(y) + y
        y = F.relu(self.norm_a(self.shared(y)) + self.norm_b(self.shared(y)))
        y = F.relu(self.norm_twice(F.relu(self.norm_twice(y))))
        y = F.relu(self.padded(self.norm_padded(y)))
        y = F.relu(self.same(self.norm_same(y)))
        y = F.relu(self.up(self.norm_up(y)))
        y = F.relu(self.norm_weighted(self.weighted(y)))
        y = F.relu(self.norm_hooked(self.hooked(y)))
        y = F.relu(self.tied_again(F.relu(self.norm_tied(self.tied(y)))))
        y = self.norm_borrowed(self.borrowed(y)) + F.conv2d(y, self.borrowed.weight, padding=1)
        y = self.own(F.relu(self.bare(F.relu(y)))).flatten(1, 2)
        return self.norm_after(F.relu(self.norm_tokens(self.tokens(y))))


class Own(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) * 2


def test_what_cannot_be_folded_stays_with_the_reason():
    model = lived_in(Awkward())
    certificate = remedies.fold_batchnorm(model, torch.randn(2, 2, 6, 6))
    reasons = dict(line.split(": ", 1) for line in certificate.refused)
    expected = {
        "norm_branching": "output of branching goes elsewhere", "norm_a": "shared is called several",
        "norm_twice": "called 2 times", "norm_padded": "zero-padded convolution padded",
        "norm_same": "zero-padded convolution same", "norm_up": "transposed convolution up",
        "norm_weighted": "weighted computes its weight", "norm_hooked": "hooked has hooks",
        "norm_tied": "tied shares its weight", "norm_borrowed": "weight of borrowed is used elsewhere",
        "bare": "no running statistics", "own": "may do more than normalise",
        "norm_tokens": "another axis than the outputs of tokens", "norm_after": "no linear or convolution layer feeds",
        "norm_unused": "called 0 times",
    }  # fmt: skip
    wrong = {name: reasons.get(name) for name, text in expected.items() if text not in reasons.get(name, "")}
    assert wrong == {}
    assert certificate.folded == ()
    assert certificate.largest_difference == 0


@pytest.mark.parametrize(("padding", "kernel", "is_folded"), [("valid", 3, True), ("same", 3, False), ("same", 1, True),
                                                              (0, 3, True), (1, 3, False)])  # fmt: skip
def test_only_zero_padding_keeps_a_norm_before_a_convolution(padding, kernel, is_folded):
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, kernel, padding=padding)).eval()
    certificate = remedies.fold_batchnorm(model, torch.randn(4, 3, 6, 6))
    assert certificate.folded == (("0",) if is_folded else ())


def test_a_model_in_training_mode_is_refused():
    model = net()
    model[4].train()
    with pytest.raises(fl.DataError, match="model in training mode cannot be folded") as error:
        remedies.fold_batchnorm(model, torch.randn(4, 3, 6, 6))
    assert error.value.where == "4"


class Fickle(nn.Module):
    """Looks at the type of its BatchNorm: another model once that is gone."""

    def __init__(self):
        super().__init__()
        self.fc, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x):
        y = self.norm(self.fc(x))
        return y if isinstance(self.norm, nn.BatchNorm1d) else y + 1


def test_a_model_that_is_not_the_same_is_put_back():
    model = lived_in(Fickle())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(fl.DataError, match="The folded model is not the same model"):
        remedies.fold_batchnorm(model, torch.randn(3, 4))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(fl.DataError, match="The folded model is not the same model"):
        remedies.fold_batchnorm(net(), torch.full((4, 3, 6, 6), torch.nan))


class Notices(nn.Module):
    """Answers a little differently once its BatchNorm is gone."""

    def __init__(self, apart):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.norm, self.apart = nn.Linear(4, 4), nn.BatchNorm1d(4), apart

    def forward(self, x):
        return self.norm(self.layer(x)) * (1.0 if isinstance(self.norm, nn.BatchNorm1d) else 1.0 + self.apart)


@pytest.mark.parametrize(("apart", "is_same"), [(3e-6, True), (3e-5, False)])
def test_a_hundred_thousandth_is_allowed(apart, is_same):
    model, example = Notices(apart).eval(), torch.randn(8, 4)
    if is_same:
        assert remedies.fold_batchnorm(model, example).folded == ("norm",)
        return
    with pytest.raises(fl.DataError):
        remedies.fold_batchnorm(model, example)
    assert isinstance(model.norm, nn.BatchNorm1d)


@pytest.mark.parametrize(("offset", "is_folded"), [(100.0, True), (3000.0, False)])
def test_a_fold_that_loses_digits_is_refused_and_leaves_the_model_as_it_was(offset, is_folded):
    """A mean far from zero goes into the bias, and takes the digits of what is near it."""
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(4) + 0.1 * torch.randn(4, 4))
        model[0].bias.fill_(offset)
        model[1].running_mean.fill_(offset)
    x = torch.randn(64, 4)
    if is_folded:
        assert remedies.fold_batchnorm(model, x).folded == ("1",)
        return
    with untouched(model), pytest.raises(fl.DataError, match="not the same model") as error:
        remedies.fold_batchnorm(model, x)
    assert "allowed 1.0e-05" in error.value.received
    assert remedies.fold_batchnorm(model, x, tolerance=1e-3).folded == ("1",)


def norm_of(kind, channels, **options):
    made = kind(channels, **options).double().eval()
    with torch.no_grad():
        for tensor, low in ((made.running_mean, -2), (made.running_var, 0.1), (made.weight, -2), (made.bias, -2)):
            if tensor is not None:
                tensor.uniform_(low, 3)
    return made


def check(layer, norm, x, *, is_after):
    layer = layer.double().eval()
    with torch.no_grad():
        expected = norm(layer(x)) if is_after else layer(norm(x))
        write(layer, *(merge_after(layer, norm) if is_after else merge_before(norm, layer)))
        torch.testing.assert_close(layer(x), expected, rtol=1e-9, atol=1e-9)


KINDS = {1: (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d), 2: (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d),
         3: (nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d)}  # fmt: skip


@given(st.sampled_from([1, 2, 3]), st.sampled_from([1, 2, 4]), st.booleans(), st.booleans(), st.integers(0, 2),
       st.booleans())  # fmt: skip
def test_a_norm_after_any_convolution(axes, groups, is_transposed, bias, padding, affine):
    conv = KINDS[axes][is_transposed](4, 8, 3, groups=groups, bias=bias, padding=padding, stride=2)
    check(conv, norm_of(KINDS[axes][2], 8, affine=affine), torch.randn(2, 4, *[5] * axes).double(), is_after=True)


@given(st.sampled_from([1, 2, 3]), st.sampled_from([1, 2, 4]), st.booleans())
def test_a_norm_before_a_convolution_without_zeros(axes, groups, bias):
    conv = KINDS[axes][0](4, 8, 3, groups=groups, bias=bias, padding=1, padding_mode="circular")
    check(conv, norm_of(KINDS[axes][2], 4), torch.randn(2, 4, *[5] * axes).double(), is_after=False)


@pytest.mark.parametrize("is_after", [True, False])
def test_linear_layers(is_after):
    check(nn.Linear(4, 6, bias=False), norm_of(nn.BatchNorm1d, 6 if is_after else 4), torch.randn(3, 4).double(),
          is_after=is_after)  # fmt: skip
