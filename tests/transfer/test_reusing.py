import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import frostline as fl


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
    with pytest.raises(fl.DataError, match="Cannot read weights from this file") as error:
        fl.reuse(tmp_path / "w.pt", net())
    assert "not safe" in error.value.received
    assert capsys.readouterr().out == ""


def test_files_that_are_no_weights_are_refused(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"nothing")
    torch.save([1, 2], tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt", "missing.pt"):
        with pytest.raises(fl.DataError, match="Cannot read weights from this file"):
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
