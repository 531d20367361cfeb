import copy
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import frostline as fl


def net() -> nn.Sequential:
    block = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    return nn.Sequential(block, nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2))


class Vit(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(4))
        self.embed = nn.Linear(4, 4)
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = self.embed(x) + self.token
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def test_through_freezes_what_is_registered_before_and_what_ancestors_hold():
    model = Vit()
    summary = fl.freeze(model, through="blocks.1")
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen == ["token", "embed.weight", "embed.bias", "blocks.0.weight", "blocks.0.bias", "blocks.1.weight",
                      "blocks.1.bias"]  # fmt: skip
    assert set(summary.parameters) == set(frozen)
    assert summary.num_frozen == 4 + 3 * 20
    assert "elements frozen" in str(summary)


def test_statistics_and_noise_stand_still_after_train():
    model = net()
    fl.freeze(model, through="0")
    model.train()
    x = torch.randn(8, 4)
    before = copy.deepcopy(model[0].state_dict())
    assert torch.equal(model[0](x), model[0](x))
    assert all(torch.equal(value, before[key]) for key, value in model[0].state_dict().items())
    assert model[2].training


def test_stale_gradients_are_dropped():
    model = net()
    model(torch.randn(4, 4)).sum().backward()
    fl.freeze(model, through="0")
    assert model[0][0].weight.grad is None
    assert model[3].weight.grad is not None


def test_parameters_held_by_every_ancestor_are_frozen_however_deep():
    inner = net()
    inner.token = nn.Parameter(torch.zeros(3))
    outer = nn.Sequential(nn.Linear(4, 4), nn.Sequential(inner, nn.Linear(4, 4)))
    outer.mask = nn.Parameter(torch.zeros(2))
    outer[1].position = nn.Parameter(torch.zeros(5))
    fl.freeze(outer, through="1.0.0")
    for parameter in (outer.mask, outer[1].position, inner.token):
        assert not parameter.requires_grad
    assert inner[3].weight.requires_grad


def test_the_freeze_survives_copies_pickles_and_state_dicts():
    model = net()
    keys = list(model.state_dict())
    fl.freeze(model, through="0")
    assert list(model.state_dict()) == keys
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        model.eval()
        other.train()
        assert not other[0][1].training
        assert other[3].training
        assert not model[3].training  # the copy's switch is its own
    other.load_state_dict(net().state_dict())
    other.train()
    assert not other[0].training


def test_globs_modules_and_parameters():
    model = net()
    fl.freeze(model, patterns=["0.1*", "3.bias"])
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["0.1.weight", "0.1.bias", "3.bias"]
    model = net()
    fl.freeze(model, modules=[model[1]], parameters=[model[3].weight])
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["1.weight", "1.bias", "3.weight"]
    model.train()
    assert not model[1].training
    assert model[3].training


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        (lambda model: {"parameters": [model[3].weight]}, ["3.weight"]),
        (lambda model: {"modules": [model[3]]}, ["3.weight", "3.bias"]),
        (lambda model: {"patterns": "3.bias"}, ["3.bias"]),
    ],
)
def test_each_way_of_choosing_works_alone(chosen, names):
    model = net()
    assert fl.freeze(model, **chosen(model)).parameters == tuple(names)
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == names


def test_a_wholly_frozen_model_stays_in_inference_mode():
    model = net()
    assert fl.freeze(model).share_frozen == 1.0
    model.train()
    assert not any(module.training for module in model.modules())


def test_thaw_goes_back():
    model = net()
    fl.freeze(model)
    fl.thaw(model, down_to="1")
    model.train()
    assert [m.training for m in model] == [False, True, True, True]
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == [
        "0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias"]  # fmt: skip
    fl.thaw(model)
    assert all(module.training for module in model.train().modules())
    assert all("train" not in vars(module) for module in model.modules())


@given(st.sampled_from(["0.0", "0.1", "0", "1", "2", "3"]))
def test_freezing_twice_is_freezing_once_and_thawing_undoes_it(through):
    model = net()
    fl.freeze(model, through=through)
    state = [p.requires_grad for p in model.parameters()], [m.training for m in model.modules()]
    again = fl.freeze(model, through=through)
    assert (again.layers, again.parameters) == ((), ())
    assert state == ([p.requires_grad for p in model.parameters()], [m.training for m in model.modules()])
    fl.thaw(model)
    assert all(p.requires_grad for p in model.parameters())
    assert all(m.training for m in model.modules())


def test_recurrent_attention_and_parametrized_layers_freeze():
    attention = nn.MultiheadAttention(4, 2, batch_first=True)
    model = nn.ModuleList([nn.LSTM(4, 4, dropout=0.1, num_layers=2), attention,
                           nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 2)])  # fmt: skip
    fl.freeze(model, through="2")
    model.train()
    assert [m.training for m in model] == [False, False, False, True]
    assert [n for n, p in model.named_parameters() if p.requires_grad] == ["3.weight", "3.bias"]


def test_unknown_names_list_the_nearest():
    with pytest.raises(fl.LayerNotFound, match="no layer named 'blocks.7'") as error:
        fl.freeze(Vit(), through="blocks.7")
    assert "'blocks.0'" in error.value.do
    with pytest.raises(fl.LayerNotFound, match="No layer or parameter matches"):
        fl.freeze(Vit(), patterns=["block.*"])
    with pytest.raises(fl.LayerNotFound, match="is not part of the model"):
        fl.freeze(Vit(), modules=[nn.Linear(2, 2)])
    with pytest.raises(fl.LayerNotFound, match="is not part of the model"):
        fl.freeze(Vit(), parameters=[nn.Parameter(torch.ones(2))])


def test_thawing_a_part_leaves_the_rest_to_be_thawed_later():
    model = net()
    model[3].bias.requires_grad_(False)  # fixed by its owner
    fl.freeze(model)
    first = fl.thaw(model, down_to="1")
    assert first.parameters == ("1.weight", "1.bias", "3.weight")
    assert first.notes == ("1 parameter was fixed before freeze, and not thawed; thaw(model, all=True) thaws all",)
    second = fl.thaw(model)
    assert second.parameters == ("0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias")
    assert not model[3].bias.requires_grad
    assert fl.thaw(model, all=True).parameters == ("3.bias",)
    assert fl.thaw(model).notes == ()


def test_a_layer_that_was_replaced_after_the_freeze_is_thawed_all_the_same():
    model = net()
    fl.freeze(model)
    del model[1].bias
    model[1].bias = nn.Parameter(torch.zeros(4), requires_grad=False)
    del model[3].bias
    model[3].register_parameter("bias", None)
    fl.thaw(model, down_to="1")
    assert model[1].weight.requires_grad
    assert fl.thaw(model).num_frozen == 0
    assert all("_names_frozen" not in vars(module) for module in model.modules())


def test_modes_from_before_the_freeze_come_back():
    model = net()
    model[2].eval()  # the owner's choice
    fl.freeze(model)
    fl.thaw(model)
    assert [module.training for module in model] == [True, True, False, True]
    model.eval()
    fl.freeze(model, through="0")
    fl.thaw(model)
    assert not any(module.training for module in model.modules())


def test_whole_numbers_stay_fixed_when_all_is_thawed():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].table = nn.Parameter(torch.zeros(2, dtype=torch.long), requires_grad=False)
    fl.freeze(model)
    summary = fl.thaw(model, all=True)
    assert not model[0].table.requires_grad
    assert summary.notes == ()


class Registered(nn.Module):
    """Its output layers are registered before what they follow."""

    def __init__(self, **heads):
        super().__init__()
        for name, head in heads.items():
            self.add_module(name, head)
        self.body, self.last = nn.Linear(4, 4), nn.Linear(4, 4)


@pytest.mark.parametrize("name", ["fc", "classifier", "head", "heads", "score", "lm_head"])
def test_an_output_layer_that_is_registered_first_is_told(name):
    (note,) = fl.freeze(Registered(**{name: nn.Linear(4, 2)}), through="body").notes
    assert f"'{name}' was frozen too: it is registered before 'body'" in note
    assert fl.freeze(Registered(neck=nn.Linear(4, 2)), through="body").notes == ()
    assert fl.freeze(Registered(**{name: nn.Linear(4, 2)}), through=name).notes == ()


@pytest.mark.parametrize("getter", ["get_classifier", "get_output_embeddings"])
def test_an_output_layer_that_the_model_itself_names_is_told(getter):
    for many in (False, True):
        model = Registered(first=nn.Linear(4, 2), second=nn.Linear(4, 2))
        setattr(model, getter, lambda m=model, n=many: (m.first, m.second) if n else m.first)
        notes = fl.freeze(model, through="body").notes
        assert [note.split("'")[1] for note in notes] == (["first", "second"] if many else ["first"])
    model = Registered()
    setattr(model, getter, lambda: None)
    assert fl.freeze(model, through="body").notes == ()


def test_a_shared_layer_is_frozen_by_any_of_its_names():
    shared = nn.Linear(4, 4)
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": shared, "c": nn.Linear(4, 4), "d": shared})
    fl.freeze(model, through="d")  # it runs first as "b"
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["c.weight", "c.bias"]
    other = nn.ModuleDict({"a": shared, "b": nn.Linear(4, 4), "c": shared})
    fl.thaw(other)
    assert fl.freeze(other, patterns=["c"]).parameters == ("a.weight", "a.bias")


@pytest.mark.parametrize("wrong", [[3], [None], ["0.weight"]])
def test_what_is_no_parameter_is_described(wrong):
    with pytest.raises(fl.LayerNotFound, match="is not part of the model") as error:
        fl.freeze(net(), parameters=wrong)
    assert error.value.received.startswith(f"a {type(wrong[0]).__name__} that is not in this Sequential")
    with pytest.raises(fl.LayerNotFound, match=r"A parameter of shape \(2, 3\)") as error:
        fl.freeze(net(), parameters=[nn.Parameter(torch.zeros(2, 3))])
    assert error.value.where == "freeze(model, parameters=...)"


@pytest.mark.parametrize("call", [fl.freeze, fl.thaw])
def test_models_that_cannot_be_frozen_are_refused(call):
    with pytest.raises(fl.DataError, match="not a model"):
        call(None)
    with pytest.raises(fl.DataError, match="lazy layer has no weights yet"):
        call(nn.Sequential(nn.LazyLinear(2)))
    word = {fl.freeze: "frozen", fl.thaw: "thawed"}[call]
    assert call(nn.DataParallel(net())).notes == (f"the model inside of DataParallel was {word}",)


def test_a_model_without_layers_and_an_empty_choice():
    model = nn.Linear(2, 2)
    assert fl.freeze(model).layers == ()
    assert fl.freeze(model).share_frozen == 1.0
    fl.thaw(model)
    assert fl.freeze(model, parameters=[]).num_frozen == 0
    assert model.weight.requires_grad


@pytest.mark.parametrize(
    "norm", [nn.utils.spectral_norm, nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm]
)
def test_what_a_norm_made_of_a_frozen_weight_is_thawed(norm):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    fl.freeze(model, through="0")
    norm(model[0])
    assert not any(parameter.requires_grad for parameter in model[0].parameters())
    fl.thaw(model, down_to="1")
    assert not any(parameter.requires_grad for parameter in model[0].parameters())
    assert fl.thaw(model).notes == ()
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_freeze_and_a_thaw_of_a_model_in_inference_mode_leave_no_trace():
    model = net().eval()
    before = [sorted(vars(module)) for module in model.modules()]
    fl.freeze(model, through="0")
    fl.thaw(model)
    assert before == [sorted(vars(module)) for module in model.modules()]


def test_a_tied_parameter_is_frozen_by_any_of_its_names():
    model = nn.ModuleDict({"embed": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False)})
    model["head"].weight = model["embed"].weight
    assert fl.freeze(model, patterns=["head.weight"]).parameters == ("embed.weight",)


@pytest.mark.parametrize("mode", [True, False])
def test_a_model_that_was_frozen_whole_gets_its_mode_back_from_before(mode):
    model = net().train(mode)
    fl.freeze(model)
    model.train(not mode)
    fl.thaw(model)
    assert [module.training for module in model.modules()] == [mode] * len(list(model.modules()))


def test_thawing_all_includes_what_was_fixed_before_and_leaves_whole_numbers_alone():
    model = net()
    model[1].weight.requires_grad_(False)
    model.register_parameter("table", nn.Parameter(torch.arange(3), requires_grad=False))
    fl.freeze(model, through="1")
    assert fl.thaw(model).notes == (
        "1 parameter was fixed before freeze, and not thawed; thaw(model, all=True) thaws all",
    )
    assert not model[1].weight.requires_grad
    summary = fl.thaw(model, all=True)
    assert summary.parameters == ("1.weight",)
    assert not model.table.requires_grad
    assert summary.notes == ()


@pytest.mark.parametrize("mode", [True, False])
def test_what_is_thawed_follows_the_mode_that_the_model_has_now(mode):
    model = net().train(not mode)
    model.train()
    fl.freeze(model, through="0")
    model.train(mode)
    fl.thaw(model)
    assert [module.training for module in model.modules()] == [mode] * len(list(model.modules()))


def test_what_was_fixed_by_hand_after_a_freeze_of_other_layers_stays_fixed():
    model = net()
    fl.freeze(model, through="0")
    model[3].bias.requires_grad_(False)
    model[3].weight.requires_grad_(False)
    summary = fl.thaw(model)
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["3.weight", "3.bias"]
    assert summary.notes == ("2 parameters were fixed before freeze, and not thawed; thaw(model, all=True) thaws all",)
    assert (summary.num_frozen, summary.num_parameters) == (10, 58)


def test_a_layer_that_is_named_as_a_parameter_that_is_gone_stays_fixed():
    model = nn.Module()
    model.token, model.token_mixer = nn.Parameter(torch.zeros(2)), nn.Linear(2, 2)
    model.token_mixer.requires_grad_(False)
    fl.freeze(model)
    del model.token
    fl.thaw(model)
    assert not model.token_mixer.weight.requires_grad


def test_a_layer_whose_parameters_are_all_frozen_stays_in_inference_mode_and_others_do_not():
    model = net()
    summary = fl.freeze(model, parameters=[*model[0][1].parameters(), model[1].weight])
    model.train()
    assert [part.training for part in model[0]] == [True, False, True]
    assert model[1].training
    assert summary.layers == ("0.1",)
    assert fl.thaw(model, down_to="0.1").layers == ("0.1",)
    assert model[0][1].training


def test_a_layer_without_parameters_can_be_frozen_alone():
    model = net()
    assert fl.freeze(model, modules=[model[2]]).layers == ("2",)
    model.train()
    assert [module.training for module in model] == [True, True, False, True]


def test_a_container_follows_train_again_when_a_part_of_it_is_thawed():
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Linear(2, 2))
    fl.freeze(model, through="0")
    fl.thaw(model, down_to="0.1")
    model.train()
    assert [module.training for module in (model[0], model[0][0], model[0][1])] == [True, False, True]
    model.eval()
    assert not model[0].training


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_a_scripted_part_can_be_frozen():
    model = nn.Sequential(torch.jit.script(nn.Linear(4, 4)), nn.Linear(4, 2))
    fl.freeze(model, through="0")
    assert [parameter.requires_grad for parameter in model.parameters()] == [False, False, True, True]
    fl.thaw(model)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_frozen_module_gives_itself_back_when_its_mode_is_set():
    model = net()
    fl.freeze(model)
    assert model.train() is model
    assert model.eval() is model
    assert model[0].train(True) is model[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.jit
def test_a_script_without_a_mode_is_frozen_and_thawed():
    script = torch.jit.freeze(torch.jit.script(nn.Sequential(nn.Linear(2, 2)).eval()))
    model = nn.Sequential(script, nn.Linear(2, 2))
    fl.freeze(model, through="0")
    assert not model.train()[0].training
    fl.thaw(model)
    assert model.train().training


def test_a_frozen_table_that_a_parametrization_computes_takes_no_step():
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Embedding(4, 8)), nn.Linear(8, 2))
    before = model.state_dict()["0.parametrizations.weight.0._u"].clone()
    fl.freeze(model, through="0")
    assert torch.equal(model.state_dict()["0.parametrizations.weight.0._u"], before)
