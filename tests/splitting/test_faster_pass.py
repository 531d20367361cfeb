import pytest
import torch
from torch import nn

import frostline as fl
from frostline.caching import Proofs
from frostline.splitting import faster_pass
from frostline.splitting.candidate import Candidate
from helpers_passes import images, network

X = images().tensors[0]


class Memory:
    """Keeps what was measured."""

    def __init__(self, gain=None):
        self.kept = {} if gain is None else {"gain": gain}

    def recall(self, part, key):
        return self.kept or None

    def keep(self, part, key, figures):
        self.kept = dict(figures)


def split(model=None):
    model = network() if model is None else model
    fl.freeze(model, through="5")
    return fl.split(model, X[:4])


@pytest.mark.parametrize(("ways", "allowed"), [
    (("fold",), 1e-5), (("channels_last",), 1e-5), (("bf16",), 5e-2), (("channels_last", "fold", "bf16"), 5e-2),
])  # fmt: skip
def test_a_faster_pass_gives_the_features_but_for_rounding_and_has_a_recipe_of_its_own(ways, allowed):
    made = split()
    part = made.faster(ways, 8, Memory(2.0))
    (exact,), (found,) = made.extract(X), part.extract(X)
    assert found.dtype == exact.dtype
    assert found.is_contiguous()
    assert float((found - exact).abs().max() / exact.abs().max()) < allowed
    assert part.recipe == {**made.recipe, "frozen pass": " ".join(sorted(ways))}
    part.prove(X[:8], part.extract(X[:8]))
    part.check_unchanged()
    assert torch.equal(made.extract(X)[0], exact)


def test_channels_last_is_measured_once_and_used_only_where_it_is_faster(monkeypatch):
    made, memory = split(), Memory()
    times = iter([([2.0], [1.0])])
    monkeypatch.setattr(faster_pass, "interleaved", lambda *_, **__: next(times))
    part = made.faster(("channels_last",), 8, memory)
    assert memory.kept == {"gain": 2.0}
    assert part.notes == ["frozen pass: channels last was 2.00 times as fast, and is used"]
    assert made.faster(("channels_last",), 8, memory).recipe == part.recipe  # nothing is measured again
    slow = made.faster(("channels_last",), 8, Memory(1.04))
    assert slow.recipe == made.recipe
    assert slow.notes == ["frozen pass: channels last was 1.04 times as fast, and is not used"]
    assert torch.equal(slow.extract(X)[0], made.extract(X)[0])


def test_the_timing_runs_both_formats():
    memory = Memory()
    split().faster(("channels_last",), 8, memory)
    assert memory.kept["gain"] > 0


def test_a_pass_that_does_not_compute_the_model_is_refused():
    part = split().faster(("fold",), 8, Memory())
    (features,) = part.extract(X[:8])
    with pytest.raises(fl.SplitError, match="faster frozen pass does not compute what the model computes") as error:
        part.prove(X[:8], (features * 1.01,))
    assert "leave frozen_pass out" in error.value.do


def test_a_batch_that_steers_the_model_otherwise_is_computed_by_the_plain_pass(monkeypatch):
    made = split()
    part, plain = made.faster(("bf16",), 8, Memory()), made.extract(X)[0]
    assert part.is_steered == made.is_steered
    run = Candidate._run_frozen

    def steered(self, inputs):
        return run(self, inputs)[0], ["another path"] if torch.is_autocast_enabled("cpu") else []

    assert not torch.equal(part.extract(X)[0], plain)
    monkeypatch.setattr(Candidate, "_run_frozen", steered)
    assert torch.equal(part.extract(X)[0], plain)


def test_compiled_blocks_compute_the_features_at_any_batch_size(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda forward: compiled.append(forward) or forward)  # no C++ compiler
    made = split()
    part = made.faster(("compile", "fold"), 8, Memory())
    assert part.notes[-1] == "frozen pass: 2 frozen blocks are compiled"
    assert len(compiled) == 2
    for count in (1, 3, 8):
        torch.testing.assert_close(part.extract(X[:count]), made.extract(X[:count]), rtol=1e-4, atol=1e-5)
    part.check_unchanged()


def test_a_block_that_cannot_be_exported_runs_as_it_is_written(monkeypatch):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(6, 6))

        def forward(self, x):
            return self.inner(x) if float(x.abs().sum()) > 0 else x

    model = nn.Sequential(Odd(), nn.Linear(6, 3))
    fl.freeze(model, through="0")
    made = fl.split(model, torch.randn(4, 6))
    monkeypatch.setattr(torch, "compile", lambda forward: forward)
    part = made.faster(("compile",), 8, Memory())
    assert "0 as written" in part.notes[-1]


def test_an_error_of_the_compiler_says_what_to_do(monkeypatch):
    def fail(forward):
        def run(*_):
            raise RuntimeError("no C++ compiler")

        return run

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(fl.DataError, match="frozen part cannot be compiled") as error:
        split().faster(("compile",), 8, Memory())
    assert "C++ compiler" in error.value.do


def test_a_decision_is_kept_by_the_proofs_of_a_cache(tmp_path):
    made = split()
    first = made.faster(("channels_last",), 8, Proofs(tmp_path))
    assert made.faster(("channels_last",), 8, Proofs(tmp_path)).notes == first.notes
