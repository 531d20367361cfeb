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


def test_outputs_that_groups_cannot_share_are_refused():
    model = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2))
    with pytest.raises(fl.DataError, match="cannot be shared out among its groups"):
        fl.replace_head(model, 5, name="0")
    fl.replace_head(model, 4, name="0")
