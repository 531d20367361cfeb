import pytest
import torch
from torch import nn
from torch.nn import functional as F

from frostline.diagnosis.probes.side_effects import facts_of_side_effects
from frostline.diagnosis.rules.wiring_records import SideEffects


class Model(nn.Module):
    def __init__(self, before=None, **parts):
        super().__init__()
        self.layer, self.noise, self.before = nn.Linear(4, 3), nn.Dropout(0.5), before
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, inputs):
        if self.before is not None:
            self.before(self, inputs)
        return self.noise(self.layer(inputs))


def found(before=None, loss_fn=F.cross_entropy, **parts):
    torch.manual_seed(0)
    model, batch = Model(before, **parts), (torch.randn(8, 4), torch.arange(8) % 3)
    kept = [value.clone() for value in (*batch, *model.state_dict().values(), torch.get_rng_state())]
    facts = facts_of_side_effects(model, batch, loss_fn)
    after = (*batch, *model.state_dict().values(), torch.get_rng_state())
    assert all(map(torch.equal, kept, after))
    assert all(module.training for module in model.modules())
    return facts


def one_up(output, target):
    target.add_(1).remainder_(3)
    return F.cross_entropy(output, target)


def relabelled(output, target):
    target[target == 2] = 0
    return F.cross_entropy(output, target)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (lambda _, inputs: inputs.sub_(1), SideEffects(inputs=("0",))),
        (lambda model, _: nn.init.normal_(model.layer.weight.data), SideEffects(weights=("layer.weight",))),
        (lambda model, _: model.train(), SideEffects(modes=("", "layer"))),
        (lambda model, _: model.eval(), SideEffects(modes=("", "layer"))),
        (lambda *_: torch.manual_seed(0), SideEffects(reseeds=True)),
    ],
    ids=["inputs", "weights", "train", "eval", "seed"],
)
def test_what_forward_changes_is_found(before, expected):
    assert found(before) == expected


def test_what_the_loss_changes_is_found():
    assert found(loss_fn=one_up) == SideEffects(targets=("0",))
    assert found(loss_fn=relabelled) == SideEffects(settled=("0",))


def read_again(output, target):
    loss = F.cross_entropy(output, target)
    target[target == 2] = 0
    return loss


@pytest.mark.parametrize(
    "before",
    [
        lambda _, x: x.relu_(), lambda _, x: x.clamp_(-1, 1), lambda _, x: x[:, :1].zero_(),
        lambda _, x: x.sub_(x.mean(0)),
    ],
    ids=["relu", "clamp", "slice", "mean"],
)  # fmt: skip
def test_a_change_that_gives_the_same_when_it_comes_again_is_told_apart(before):
    assert found(before) == SideEffects(settled=("0",))


def test_what_is_changed_after_it_was_used_is_not_settled():
    assert found(loss_fn=read_again) == SideEffects(targets=("0",))
    assert found(lambda _, x: F.dropout(x, 0.5, inplace=True)) == SideEffects(inputs=("0",))


def test_inputs_that_are_the_targets_are_not_settled():
    inputs = torch.randn(8, 4)
    facts = facts_of_side_effects(Model(lambda _, x: x.relu_()), (inputs, inputs), lambda o, t: o.mean() + t.mean())
    assert facts == SideEffects(inputs=("0",))


def test_a_plain_pass_has_none():
    assert found() == SideEffects()
    frozen = nn.BatchNorm1d(3).requires_grad_(False)  # a frozen part that its forward keeps in evaluation mode
    assert found(lambda model, _: model.frozen.eval(), frozen=frozen) == SideEffects()


def test_embeddings_that_keep_their_norm_are_meant_so():
    def look_up(model, _):
        model.table(torch.arange(5))

    assert found(look_up, table=nn.Embedding(5, 3, max_norm=0.1)) == SideEffects()
