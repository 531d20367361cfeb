import pytest
import torch
from torch import nn

import frostline as fl
from helpers_splitting import D, Net, x


def frozen_mlp():
    model = nn.Sequential(nn.Linear(D, D), nn.BatchNorm1d(D), nn.ReLU(), nn.Linear(D, 2))
    fl.freeze(model, through="2")
    return model


CHANGES = {
    "a weight in place": lambda m: m[0].weight.data.mul_(2),
    "a weight by load_state_dict": lambda m: m.load_state_dict({k: v * 2 for k, v in m.state_dict().items()}),
    "a weight that is replaced": lambda m: setattr(m[0], "weight", nn.Parameter(m[0].weight * 2, requires_grad=False)),
    "a buffer": lambda m: m[1].running_mean.add_(1),
    "a number": lambda m: setattr(m[1], "eps", 0.5),
    "a layer": lambda m: m.__setitem__(2, nn.Tanh()),
    "the frost line": lambda m: fl.thaw(m, all=True),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_frozen_part_that_changed_after_the_split_publishes_nothing(tmp_path, name):
    model, data = frozen_mlp(), [(x(1)[0], 0) for _ in range(6)]
    split = fl.split(model, x(4))
    split.check_unchanged()
    with torch.no_grad():
        CHANGES[name](model)
    with pytest.raises(fl.SplitError, match="changed after the model was split"):
        split.check_unchanged()
    with pytest.raises(fl.SplitError, match="changed after the model was split"):
        fl.FeatureCache(tmp_path).fill(split, data, progress=False)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_weights_are_looked_at_again_at_every_pass(tmp_path):
    model = frozen_mlp()
    data = fl.FeatureCache(tmp_path).fill(fl.split(model, x(4)), [(x(1)[0], 0) for _ in range(6)], progress=False)
    loader = data.loader(3)
    assert len(list(loader)) == 2
    with torch.no_grad():
        model[0].weight.add_(1)
    with pytest.raises(fl.SplitError, match="changed after the model was split"):
        next(iter(loader))
    with pytest.raises(fl.SplitError, match="changed after the model was split"):
        data[0]


def test_training_the_head_changes_nothing_of_the_frozen_part():
    model = frozen_mlp()
    split = fl.split(model, x(4))
    with torch.no_grad():
        model[3].weight.add_(1)
    split.check_unchanged()
    split.check_weights()


def test_a_look_up_that_scales_its_own_frozen_weight_is_refused_and_left_as_it_was():
    model = Net(lambda m, batch: m.high(m.table(batch)), table=nn.Embedding(9, D, max_norm=0.1))
    model.table.requires_grad_(False)
    before = model.table.weight.clone()
    with pytest.raises(fl.NotCacheable, match="scaled to max_norm") as error:
        fl.split(model, torch.arange(4))
    assert "set max_norm = None on the nn.Embedding" in error.value.do
    assert torch.equal(model.table.weight, before)


def test_a_trainable_look_up_is_left_as_it_was():
    model = Net(lambda m, batch, key: m.high(m.low(batch)) + m.table(key), table=nn.Embedding(9, D, max_norm=0.1))
    before = model.table.weight.clone()
    fl.split(model, (x(4), torch.arange(4)))
    assert torch.equal(model.table.weight, before)


def test_a_single_sample_fails_as_the_model_does_and_serves_in_evaluation():
    model = Net(lambda m, batch: m.high(m.norm(m.low(batch) / (1.0 + float(batch.isnan().any())))),
                norm=nn.BatchNorm1d(D))  # fmt: skip
    split = fl.split(model, x(4))
    model.eval()
    split.head.eval()
    batch = x(1)
    torch.testing.assert_close(split.head(*split.extract(batch)), model(batch))
