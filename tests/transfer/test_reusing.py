import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import frostline as fl
from frostline.core.errors import DataError
from frostline.transfer.reusing import reuse


def net(classes: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, classes))


def test_a_range_of_another_module():
    source, target = net(), net()
    before = target[2].weight.detach().clone()
    summary = fl.reuse(source, target, through="1")
    assert torch.equal(target[0].weight, source[0].weight)
    assert torch.equal(target[2].weight, before)
    assert target[0].weight is not source[0].weight
    assert "1.running_mean" in summary.copied
    assert "tensors copied" in str(summary)


def test_another_shape_is_listed_and_never_cropped():
    target = net(5)
    before = target[2].weight.detach().clone()
    summary = fl.reuse(net(3), target)
    assert summary.skipped == ("2.weight: (3, 8) -> (5, 8)", "2.bias: (3,) -> (5,)")
    assert torch.equal(target[2].weight, before)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}}])
def test_files_of_torch(tmp_path, wrap):
    source, target = net(), net()
    torch.save(wrap(source.state_dict()), tmp_path / "w.pt")
    assert len(fl.reuse(tmp_path / "w.pt", target).copied) == len(source.state_dict())
    assert torch.equal(target[2].weight, source[2].weight)


def test_files_of_safetensors_and_names(tmp_path):
    source, target = net(), net()
    save_file({k: v for k, v in source.state_dict().items() if k != "2.bias"}, tmp_path / "w.safetensors")
    summary = fl.reuse(str(tmp_path / "w.safetensors"), target)
    assert summary.new == ("2.bias",)
    assert fl.reuse(source, net(), names=["0.bias"]).copied == ("0.bias",)


class Code:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_file_with_code_is_refused(tmp_path, capsys):
    torch.save({"weight": Code()}, tmp_path / "w.pt")
    with pytest.raises(fl.PortError, match="contains more than data; nothing in it was executed") as error:
        fl.reuse(tmp_path / "w.pt", net())
    assert "print, which was not called" in error.value.received
    assert capsys.readouterr().out == ""


def test_files_that_are_no_weights_are_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"nothing")
    torch.save([1, 2], tmp_path / "w.pt")
    for name, told in (
        ("w.safetensors", "The format of this file is unknown"),
        ("w.pt", "no named tensors"),
        ("missing.pt", "Cannot open"),
    ):
        with pytest.raises(fl.PortError, match=told):
            fl.reuse(tmp_path / name, net())


def test_nothing_in_common_changes_nothing():
    target = net()
    before = target[0].weight.detach().clone()
    with pytest.raises(fl.LayerNotFound, match="Nothing could be reused"):
        fl.reuse(nn.ModuleDict({"a": nn.Linear(1, 1)}), target)
    with pytest.raises(fl.LayerNotFound, match="has no tensor named '9.bias'"):
        fl.reuse(net(), target, names=["9.bias"])
    assert torch.equal(target[0].weight, before)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod.", "model.", "net.", "backbone.", "module.model."])
@pytest.mark.parametrize("key", [None, "state_dict", "model_ema", "weights", "teacher"])
def test_usual_wrappers_are_taken_off_and_said(tmp_path, prefix, key):
    source, target = net(), net()
    state = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    torch.save({key: state} if key else state, tmp_path / "w.pt")
    summary = fl.reuse(tmp_path / "w.pt", target)
    assert torch.equal(target[2].weight, source[2].weight)
    assert summary.notes


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.optim.swa_utils.AveragedModel,
                                  lambda m: torch.compile(m, backend="eager")])  # fmt: skip
def test_wrapped_sources_and_targets(wrap):
    source, target = net(), net()
    fl.reuse(wrap(source), wrap(target) if wrap is nn.DataParallel else target)
    assert torch.equal(target[0].weight, source[0].weight)


def test_a_counter_alone_is_no_weight():
    with pytest.raises(fl.LayerNotFound, match="Nothing could be reused"):
        fl.reuse(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), nn.Sequential(nn.Linear(1, 8), nn.BatchNorm1d(8)))


def test_weight_norm_of_the_older_kind_goes_through_the_targets_own_hooks(tmp_path):
    target = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)))
    save_file({"0.weight_g": torch.full((3, 1), 2.0), "0.weight_v": torch.ones(3, 4)}, tmp_path / "w.safetensors")
    fl.reuse(tmp_path / "w.safetensors", target)
    assert torch.allclose(target[0].weight, torch.ones(3, 4))


class Bag(nn.Module):
    """A source with a state of any names."""

    def __init__(self, state):
        super().__init__()
        self._state = state

    def state_dict(self, *args, **kwargs):
        return dict(self._state)


def under(*starts, source=None):
    state = (source or net()).state_dict()
    return {start + name: tensor + at for at, start in enumerate(starts) for name, tensor in state.items()}


@pytest.mark.parametrize("start", ["encoder_q.", "base_model.model.", "a.b.c.", "0.", "pl_module.student."])
def test_any_beginning_is_taken_off_where_the_rest_fits(start):
    source, target = net(), net()
    summary = fl.reuse(Bag({**under(start, source=source), "other.weight": torch.ones(2)}), target)
    assert torch.equal(target[2].weight, source[2].weight)
    assert f"prefix {start!r} taken off" in summary.notes[0]


@pytest.mark.parametrize("inside", ["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."])
def test_what_is_put_into_names_is_taken_out(inside):
    source, target = net(), net()
    fl.reuse(Bag({name.replace(".", f".{inside}"): t for name, t in source.state_dict().items()}), target)
    assert torch.equal(target[0].weight, source[0].weight)


def test_two_parts_that_fit_as_well_are_refused_with_the_choice_unless_one_is_a_plain_wrapper():
    target = net()
    before = target[0].weight.detach().clone()
    for starts in (("student.", "teacher."), ("module.encoder_q.", "module.encoder_k.")):
        both = Bag(under(*starts))
        with pytest.raises(fl.LayerNotFound, match="Several parts of the source") as error:
            fl.reuse(both, target)
        assert all(repr(start) in error.value.received for start in starts)
        assert torch.equal(target[0].weight, before)
        fl.reuse(both, net(), prefix=starts[1])
    source = net()
    fl.reuse(Bag(under("model.", "ema.", source=source)), target)
    assert torch.equal(target[0].weight, source[0].weight)


def test_a_small_part_of_a_network_is_no_wrapper():
    state = {**under("blocks.3."), **{f"blocks.{at}.x.{name}": torch.ones(1) for at in range(20) for name in "abcd"}}
    with pytest.raises(fl.LayerNotFound, match="Nothing could be reused"):
        fl.reuse(Bag(state), net())


@pytest.mark.parametrize("prefix", ["gen.", "gen"])
def test_a_prefix_that_is_given_is_taken_with_and_without_its_dot(prefix):
    source, target = net(), net()
    state = under("gen.", "dis.", source=source)
    assert fl.reuse(Bag(state), target, prefix=prefix).notes[0].startswith("prefix 'gen.' taken off")
    assert torch.equal(target[0].weight, source[0].weight)
    with pytest.raises(fl.LayerNotFound, match="named 'den.' at its start") as error:
        fl.reuse(Bag(state), target, prefix="den")
    assert "'gen.'" in error.value.do


def test_an_entry_and_a_prefix_that_are_given(tmp_path):
    source, target = net(), net()
    torch.save({"nets": {"a": under("x."), "b": under("gen.", "dis.", source=source)}}, tmp_path / "w.pt")
    fl.reuse(tmp_path / "w.pt", target, key="nets.b", prefix="gen.")
    assert torch.equal(target[2].weight, source[2].weight)


def test_another_precision_is_converted_and_said():
    source, target = net().double(), net()
    summary = fl.reuse(source, target)
    assert "tensors converted from torch.float64 to torch.float32" in summary.notes[-1]
    assert torch.equal(target[0].weight, source[0].weight.float())


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm])
def test_a_layer_that_is_stored_in_another_form_is_named(norm):
    plain, normed = net(), net()
    norm(normed[2])
    for source, target in ((plain, normed), (normed, plain)):
        (note,) = fl.reuse(source, target).notes
        assert note.startswith("2: not all was copied")
    assert fl.reuse(normed, copy.deepcopy(normed)).notes == ()


def saved(state, path):
    torch.save(state, path)
    return path


def test_a_prefix_and_a_key_that_are_given_are_taken_alone(tmp_path):
    source, other, target = net(), net(), net()
    state = {"good": {f"own.{name}": x for name, x in source.state_dict().items()} | {"2.bias": torch.zeros(3)},
             "state_dict": other.state_dict(), "epoch": 3}  # fmt: skip
    path = saved(state, tmp_path / "w.pt")
    summary = fl.reuse(path, target, key="good", prefix="own.")
    assert torch.equal(target[2].bias, source[2].bias)
    assert summary.notes == (f"prefix 'own.' taken off {len(source.state_dict())} names",)
    with pytest.raises(fl.PortError, match="no weights under 'epoch'") as error:
        fl.reuse(path, target, key="epoch")
    assert error.value.do == "pass key= one of 'good', 'state_dict'."
    with pytest.raises(fl.PortError, match="no weights under 'x'") as error:
        fl.reuse(saved(source.state_dict(), tmp_path / "flat.pt"), target, key="x")
    assert error.value.do == "leave out key=: the file has no entries."


def test_of_several_sets_of_weights_the_others_are_told(tmp_path):
    path = saved({"model_ema": net().state_dict(), "model": net().state_dict()}, tmp_path / "w.pt")
    assert fl.reuse(path, net()).notes == (
        "The weights were taken from the entry 'model'. The file also contains 'model_ema' (key=...).",
    )


def test_a_prefix_is_taken_off_only_where_more_fits_without():
    source = nn.ModuleDict({"model": net(), "2": nn.Linear(8, 3)})
    target = nn.ModuleDict({"model": net(), "2": nn.Linear(8, 3)})
    summary = fl.reuse(source, target)
    assert (summary.new, summary.skipped, summary.notes) == ((), (), ())
    assert torch.equal(target["model"][0].weight, source["model"][0].weight)


def test_wrappers_in_wrappers_are_taken_off_together():
    source, target = net(), net()
    state = {f"model.module.net.{name}": x for name, x in source.state_dict().items()} | {"extra.weight": torch.ones(1)}

    class Stateful(nn.Module):
        def state_dict(self, *_, **__):
            return state

    notes = fl.reuse(Stateful(), target).notes
    count = len(source.state_dict())
    assert notes == (f"prefix 'model.module.net.' taken off {count} names",)


def test_dtypes_are_converted_and_names_stay_within_the_range():
    source, target = net().double(), net()
    assert fl.reuse(source, target, through="0").copied == ("0.weight", "0.bias")
    assert target[0].weight.dtype == torch.float32
    assert torch.equal(target[0].weight, source[0].weight.float())
    with pytest.raises(fl.LayerNotFound, match="no tensor named '2.bias' in this range") as error:
        fl.reuse(source, target, through="1", names="2.bias")
    assert "for example '1.bias', '0.bias'" in error.value.do
    with pytest.raises(fl.DataError, match="names"):
        fl.reuse(source, target, names=3)


@pytest.mark.parametrize("option", ["key", "prefix"])
def test_options_are_texts(option):
    with pytest.raises(fl.DataError, match=f"{option} is not a name"):
        fl.reuse(net(), net(), **{option: 3})


def test_models_that_cannot_take_or_give_weights_are_refused():
    lazy, meta = nn.Sequential(nn.LazyLinear(2)), nn.Linear(2, 2, device="meta")
    for source, target, what in ((lazy, net(), "lazy layer"), (net(), lazy, "lazy layer"), (meta, net(), "meta device"),
                                 (net(), None, "not a model"), (3, net(), "a model, or the path")):  # fmt: skip
        with pytest.raises(fl.DataError, match=what):
            fl.reuse(source, target)
    with torch.inference_mode():
        fixed = net()
    with pytest.raises(fl.DataError, match="inference mode"):
        fl.reuse(net(), fixed)


class Renaming(nn.Module):
    """A target that renames what it loads, by a hook of its own on the whole model."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

        def rename(state, prefix, *_):
            for name in [name for name in state if name.startswith(f"{prefix}old.")]:
                state[f"{prefix}layer.{name.removeprefix(f'{prefix}old.')}"] = state.pop(name)

        self._register_load_state_dict_pre_hook(rename)


def test_hooks_of_the_model_itself_rename_too(tmp_path):
    target = Renaming()
    state = {"old.weight": torch.ones(3, 4), "old.bias": torch.ones(3)}
    assert fl.reuse(saved(state, tmp_path / "w.pt"), target).copied == ("layer.weight", "layer.bias")
    assert torch.equal(target.layer.weight, torch.ones(3, 4))


def test_of_parts_that_fit_as_well_the_one_inside_of_a_usual_wrapper_is_meant(tmp_path):
    target, own, other = net(), net(), net()
    state = {f"student.{name}": x for name, x in other.state_dict().items()}
    state |= {f"module.{name}": x for name, x in own.state_dict().items()}
    fl.reuse(saved(state, tmp_path / "w.pt"), target)
    assert torch.equal(target[0].weight, own[0].weight)
    twice = {f"{part}.{name}": x for part in ("student", "pupil") for name, x in own.state_dict().items()}
    with pytest.raises(fl.LayerNotFound, match="Several parts of the source fit"):
        fl.reuse(saved(twice, tmp_path / "w.pt"), target)


def test_few_tensors_that_fit_as_they_are_beside_many_of_others(tmp_path):
    target, source = net(), net()
    many = {f"other.{at}.weight": torch.ones(1) for at in range(200)}
    fl.reuse(saved({**many, **source.state_dict()}, tmp_path / "w.pt"), target)
    assert torch.equal(target[0].weight, source[0].weight)


def test_what_fits_is_copied_into_a_frozen_target_and_wrappers_are_told():
    source, target = net(), net()
    fl.freeze(target)
    notes = fl.reuse(nn.DataParallel(source), nn.DataParallel(target)).notes
    assert notes == ("into the model inside of DataParallel", "from the model inside of DataParallel")
    assert torch.equal(target[0].weight, source[0].weight)
    assert not target[0].weight.requires_grad


def test_weights_without_usable_values_are_refused_and_nothing_changes(tmp_path):
    def refused(change, told, **options):
        target = two_layers()
        before = copy.deepcopy(target.state_dict())
        torch.save({name: change(tensor) for name, tensor in two_layers().state_dict().items()}, tmp_path / "w.pt")
        with pytest.raises((fl.DataError, fl.PortError), match=told) as error:
            fl.reuse(tmp_path / "w.pt", target, **options)
        assert all(torch.equal(own, before[name]) for name, own in target.state_dict().items())
        return error.value

    assert (
        "before it is saved"
        in refused(lambda tensor: tensor.to("meta"), "The file contains names and shapes of weights, but no values").do
    )
    assert "names=" in refused(lambda tensor: tensor * torch.nan, "'0.weight'").do
    refused(lambda tensor: tensor / 0, "Weights of the source are NaN or infinite: ")


def test_a_source_without_values_is_refused():
    source = {name: tensor.to("meta") for name, tensor in two_layers().state_dict().items()}
    with pytest.raises(fl.DataError, match="The source has names and shapes, and no values: '0.weight'"):
        reuse(source, two_layers())


def test_a_part_of_a_checkpoint_that_diverged_can_be_taken(tmp_path):
    source = two_layers()
    with torch.no_grad():
        source[1].weight[0, 0] = torch.nan
    fl.reuse(source, two_layers(), names=["0.weight", "0.bias"])
    with pytest.raises(fl.DataError, match=r"'1\.weight'"):
        fl.reuse(source, two_layers())


def test_a_buffer_may_be_infinite_as_masks_are():
    def masked():
        model = two_layers()
        model.register_buffer("mask", torch.full((2, 2), -torch.inf))
        return model

    assert "mask" in fl.reuse(masked(), masked()).copied


def test_sparse_weights_are_unpacked_and_said(tmp_path):
    source, target = two_layers(), two_layers()
    torch.save({name: tensor.to_sparse() for name, tensor in source.state_dict().items()}, tmp_path / "w.pt")
    found = fl.reuse(tmp_path / "w.pt", target)
    assert "4 sparse or quantised tensors were converted to plain ones" in str(found.notes)
    assert all(torch.equal(own, source.state_dict()[name]) for name, own in target.state_dict().items())


def test_names_of_another_framework_are_told_as_what_they_are(tmp_path):
    source = two_layers().state_dict()
    renamed = {name.replace("1.weight", "1.gamma").replace("1.bias", "1.beta"): own for name, own in source.items()}
    torch.save(renamed, tmp_path / "w.pt")
    found = fl.reuse(tmp_path / "w.pt", two_layers())
    assert "1: weight, bias not copied; the source has gamma, beta there" in found.notes
    assert "weight norm" not in str(found.notes)


@pytest.mark.parametrize("source", [{}, None, 3, torch.ones(2)])
def test_a_source_of_another_kind_is_told_what_may_be_one(source):
    with pytest.raises(fl.DataError, match="a model, or the path") as error:
        fl.reuse(source, two_layers())
    assert "checkpoint['state_dict']" in error.value.do


def two_layers():
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))


def test_statistics_alone_are_no_weights_where_the_target_has_weights():
    target = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8))
    before = target[1].running_mean.clone()
    source = Bag({"1.running_mean": torch.ones(8), "1.running_var": torch.ones(8)})
    with pytest.raises(fl.LayerNotFound, match="Nothing could be reused"):
        fl.reuse(source, target)
    assert torch.equal(target[1].running_mean, before)
    plain = nn.BatchNorm1d(8, affine=False)
    assert fl.reuse(Bag({"running_mean": torch.ones(8)}), plain).copied == ("running_mean",)
    with pytest.raises(fl.LayerNotFound, match="Nothing could be reused"):
        fl.reuse(nn.BatchNorm1d(4, affine=False), plain)  # its counter fits


def test_a_tied_weight_is_a_weight_by_any_of_its_names():
    tied = nn.ModuleDict({"embed": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False)})
    tied["head"].weight = tied["embed"].weight
    assert fl.reuse(Bag({"head.weight": torch.ones(5, 4)}), tied).copied == ("head.weight",)
    assert torch.equal(tied["embed"].weight, torch.ones(5, 4))


def test_a_tensor_that_is_missing_is_no_other_form():
    state = net().state_dict()
    del state["2.bias"]
    summary = fl.reuse(Bag(state), net())
    assert (summary.new, summary.notes) == (("2.bias",), ())


@pytest.mark.parametrize(("others", "is_wrapper"), [(27, True), (28, False)])
def test_a_beginning_that_a_quarter_of_the_names_have_is_taken_off(others, is_wrapper):
    source, target = net(), net()
    assert len(source.state_dict()) == 9
    state = {**under("encoder.", source=source), **{f"other.{at}.weight": torch.ones(1) for at in range(others)}}
    if is_wrapper:
        assert fl.reuse(Bag(state), target).notes == ("prefix 'encoder.' taken off 9 names",)
        assert torch.equal(target[0].weight, source[0].weight)
    else:
        with pytest.raises(fl.LayerNotFound, match="Nothing could be reused"):
            fl.reuse(Bag(state), target)


@pytest.mark.parametrize(("others", "is_wrapper"), [(1, True), (2, False)])
def test_where_hooks_rename_the_rest_a_wrapper_of_most_names_is_taken_off(others, is_wrapper):
    target = Renaming()
    state = {"module.net.old.weight": torch.ones(3, 4), "module.net.old.bias": torch.ones(3)}
    state |= {f"other.{at}": torch.ones(1) for at in range(others)}
    if is_wrapper:
        assert fl.reuse(Bag(state), target).notes == ("prefix 'module.net.' taken off 2 names",)
        assert torch.equal(target.layer.weight, torch.ones(3, 4))
    else:
        with pytest.raises(fl.LayerNotFound, match="Nothing could be reused"):
            fl.reuse(Bag(state), target)


def test_a_range_in_the_middle_takes_what_its_ancestors_hold():
    def block():
        made = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        made.register_parameter("scale", nn.Parameter(torch.randn(2)))
        return nn.Sequential(made, nn.Linear(2, 2))

    assert fl.reuse(block(), block(), through="0.0").copied == ("0.scale", "0.0.weight", "0.0.bias")
    assert fl.reuse(block(), block(), through="0").new == ()


def test_what_did_not_fit_is_told_with_the_start_of_both():
    with pytest.raises(fl.LayerNotFound) as error:
        fl.reuse(Bag({"a.weight": torch.ones(7), "b.weight": torch.ones(7)}), net())
    assert error.value.where == "Bag"
    assert error.value.received.startswith("2 tensors, such as '")
    assert "the target has '" in error.value.do


def test_names_that_fit_as_they_are_are_taken_before_those_that_fit_as_well_behind_a_beginning():
    source, target = net(), net()
    for starts in (("", "ema."), ("", "model.")):
        assert fl.reuse(Bag(under(*starts, source=source)), target).notes == ()
        assert torch.equal(target[0].weight, source[0].weight)


def test_different_values_for_weights_that_the_target_shares_are_refused():
    source = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    target = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    target[1].weight = target[0].weight
    before = target[0].weight.detach().clone()
    with pytest.raises(DataError, match="different values for '0.weight' and '1.weight', which the target shares"):
        fl.reuse(source, target)
    assert torch.equal(target[0].weight, before)
    source[1].weight = source[0].weight
    assert fl.reuse(source, target).copied == ("0.weight", "1.weight")
