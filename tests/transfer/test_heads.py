from types import SimpleNamespace

import pytest
import torch
from torch import nn

import frostline as fl
from helpers_vision import import_torchvision


def test_the_last_layer_of_a_sequential():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 10, bias=False), nn.Flatten()).double()
    new = fl.replace_head(model, 3)
    assert model[2] is new
    assert new.weight.shape == (3, 8)
    assert new.weight.dtype == torch.float64
    assert new.bias is None


def test_a_convolution_as_head():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 10, 1))
    assert fl.replace_head(model, 5).weight.shape == (5, 8, 1, 1)


def test_torchvision_models():
    torchvision = import_torchvision()
    for name in ("resnet18", "mobilenet_v3_small", "vit_b_32"):
        model = torchvision.models.get_model(name, weights=None)
        new = fl.replace_head(model, 5)
        assert new.out_features == 5
        assert any(module is new for module in model.modules())


def test_timm_models_stay_trainable_in_a_frozen_model():
    import_torchvision()
    import timm

    model = timm.create_model("resnet18", pretrained=False)
    fl.freeze(model)
    new = fl.replace_head(model, 5)
    model.train()
    assert new.training
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["fc.weight", "fc.bias"]
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 5)


def test_every_module_above_a_new_head_follows_train_again():
    import_torchvision()
    import timm

    model = timm.create_model("convnext_atto", pretrained=False, num_classes=4)
    fl.freeze(model)
    new = fl.replace_head(model, 3)
    model.train()
    assert model.head.fc is new
    assert new.training
    assert model.head.training
    assert model.training
    assert not model.stages.training


def test_a_layer_that_is_named_is_taken_even_where_a_model_has_a_reset_of_its_own():
    import_torchvision()
    import timm

    model = timm.create_model("resnet18", pretrained=False, num_classes=4)
    model.auxiliary = nn.Linear(512, 4)
    new = fl.replace_head(model, 3, name="auxiliary")
    assert model.auxiliary is new
    assert (new.out_features, model.fc.out_features) == (3, 4)


def test_transformers_models_know_their_labels():
    import_torchvision()
    import transformers

    config = transformers.BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                                     intermediate_size=8)  # fmt: skip
    model = transformers.BertForSequenceClassification(config)
    fl.replace_head(model, 7)
    assert model.config.num_labels == 7
    assert model(torch.zeros(2, 3, dtype=torch.long), labels=torch.tensor([6, 0])).loss.isfinite()


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.head = nn.Linear(2, 2), nn.Linear(2, 2)


def test_two_candidates_must_be_told_apart():
    with pytest.raises(fl.LayerNotFound, match="Two layers could be the output layer") as error:
        fl.replace_head(Two(), 3)
    assert error.value.received == "'fc', 'head'"
    assert fl.replace_head(Two(), 3, name="head").out_features == 3


def test_a_model_without_head_is_said():
    with pytest.raises(fl.LayerNotFound, match="Cannot find the output layer"):
        fl.replace_head(nn.Bilinear(2, 2, 2), 3)
    with pytest.raises(fl.LayerNotFound, match="Cannot find the output layer"):
        fl.replace_head(nn.Sequential(nn.ReLU()), 3, name="0")
    with pytest.raises(fl.DataError, match="num_classes is not a whole number of 1 or more"):
        fl.replace_head(Two(), 0)


class Classifying(nn.Module):
    """A model of timm's kind: it makes its output layers itself."""

    def __init__(self, many=False):
        super().__init__()
        self.body, self.head, self.extra, self.many = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 2), many

    def reset_classifier(self, num_classes):
        self.head = nn.Linear(4, num_classes)

    def get_classifier(self):
        return (self.head, self.extra) if self.many else self.head


@pytest.mark.parametrize("many", [False, True])
def test_of_several_output_layers_the_first_is_given(many):
    model = Classifying(many).double()
    fl.freeze(model)
    new = fl.replace_head(model, 5)
    assert new is model.head
    assert (new.out_features, new.weight.dtype, new.weight.requires_grad) == (5, torch.float64, True)
    assert not model.body.weight.requires_grad


def test_a_head_without_weights_before_it_is_made():
    model = Classifying()
    model.head = nn.Identity()
    assert fl.replace_head(model, 5).out_features == 5
    assert model.head.weight.dtype == torch.float32


def test_the_output_layer_inside_of_a_named_block_is_replaced():
    model = nn.Module()
    model.classifier = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2), nn.Softmax(1))
    new = fl.replace_head(model, 5, name="classifier")
    assert model.classifier[2] is new
    assert (new.in_features, model.classifier[0].out_features) == (8, 8)


def test_only_a_sequential_says_which_layer_is_last():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(2, 2), nn.Conv2d(2, 2, 1)

    with pytest.raises(fl.LayerNotFound, match="Cannot find the output layer") as error:
        fl.replace_head(Plain(), 3)
    assert error.value.received == "a Plain"
    assert "name='second'" in error.value.do
    with pytest.raises(fl.LayerNotFound) as error:
        fl.replace_head(nn.Sequential(nn.Conv2d(2, 2, 3)), 3)
    assert "name='fc'" in error.value.do


def test_layers_of_a_usual_name_without_an_output_layer_in_them_do_not_count():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.classifier = nn.ReLU(), nn.Linear(4, 2)

    assert fl.replace_head(model := Named(), 3) is model.classifier


class Configured(nn.Module):
    """A model of the kind of transformers: its settings know the number of labels."""

    def __init__(self, name):
        super().__init__()
        self.config = SimpleNamespace(num_labels=2)
        self.fc = nn.Linear(4, 2)
        self.add_module(name, nn.Linear(4, 2, bias=False))
        self.num_labels = 2


@pytest.mark.parametrize("name", ["score", "classifier"])
def test_a_model_with_settings_is_told_the_new_number(name):
    model = Configured(name)
    new = fl.replace_head(model, 7)
    assert getattr(model, name) is new
    assert (model.config.num_labels, model.num_labels, model.fc.out_features, new.bias) == (7, 7, 2, None)


def test_a_convolution_keeps_its_kernel_and_its_lack_of_a_bias():
    model = nn.Sequential(nn.Conv2d(2, 4, (1, 1), bias=False))
    new = fl.replace_head(model, 3)
    assert (new.kernel_size, new.bias, new.in_channels) == ((1, 1), None, 2)


def test_models_that_cannot_get_a_head_are_refused():
    with pytest.raises(fl.DataError, match="not a model"):
        fl.replace_head("resnet18", 3)
    with pytest.raises(fl.DataError, match="lazy layer has no weights yet"):
        fl.replace_head(nn.Sequential(nn.LazyLinear(2)), 3)
    with pytest.raises(fl.LayerNotFound, match="no layer named ''"):
        fl.replace_head(nn.Sequential(nn.Linear(2, 2)), 3, name="")
    assert fl.replace_head(nn.DataParallel(nn.Sequential(nn.Linear(2, 2))), 3).out_features == 3


@pytest.mark.parametrize(
    "old",
    [
        nn.Conv1d(4, 6, 3, stride=2, padding=1),
        nn.Conv2d(4, 6, (3, 1), stride=(2, 1), padding=(1, 0), dilation=(2, 1), bias=False),
        nn.Conv2d(4, 6, 3, padding="same", groups=2, padding_mode="reflect"),
        nn.Conv3d(4, 6, 2, padding=1),
    ],
)
def test_a_convolution_that_is_named_keeps_its_geometry(old):
    model = nn.Sequential(nn.Identity(), old)
    inputs = torch.randn(2, 4, *(7,) * (old.weight.dim() - 2))
    shape = model(inputs).shape
    new = fl.replace_head(model, 8, name="1")
    assert type(new) is type(old)
    assert model(inputs).shape == (2, 8, *shape[2:])
    assert (new.groups, new.padding_mode, new.bias is None) == (old.groups, old.padding_mode, old.bias is None)


def test_settings_without_a_number_of_labels_get_none():
    model = nn.Module()
    model.config, model.classifier = SimpleNamespace(), nn.Linear(4, 2)
    fl.replace_head(model, 3)
    assert vars(model.config) == {}
    assert not hasattr(model, "num_labels")


def test_outputs_that_groups_cannot_share_are_refused():
    model = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2))
    with pytest.raises(fl.DataError, match="cannot be shared out among its groups"):
        fl.replace_head(model, 5, name="0")
    fl.replace_head(model, 4, name="0")


def test_in_a_frozen_model_all_that_holds_the_new_head_follows_train_again():
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 2))))
    fl.freeze(model)
    new = fl.replace_head(model, 3)
    model.train()
    assert [part.training for part in (model, model[0], model[1], model[1][0], model[1][1])] == [
        True, False, True, False, True]  # fmt: skip
    assert new.training
    model.eval()
    assert not new.training
