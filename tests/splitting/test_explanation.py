import torch
from torch import nn

import frostline as fl
from helpers_splitting import FORWARDS, D, Net, x


def test_an_explanation_says_what_is_frozen_stored_and_proven():
    model = nn.Sequential(nn.Sequential(nn.Linear(D, D), nn.ReLU()), nn.Sequential(nn.Linear(D, 4), nn.Linear(4, 2)))
    fl.freeze(model, through="1.0")
    explanation = fl.split(model, x(4)).explain()
    assert (explanation.frozen, explanation.trainable) == (("0", "1.0"), ("1.1",))
    assert (explanation.num_frozen, explanation.num_trainable) == (D * D + D + 4 * D + 4, 10)
    assert (explanation.bytes_per_sample, explanation.samples) == (16, 2)
    lines = str(explanation).splitlines()
    assert lines[:4] == ["Frozen:    0, 1.0 (108 parameters)", "Trainable: 1.1 (10 parameters)",
                         "Stored:    16 bytes per sample", "  1.0: (4,) float32, per sample"]  # fmt: skip
    assert lines[-1].startswith("Proof:     verified on 3 samples, ")
    assert lines[-1].endswith("equal to the last bit")


def test_inputs_and_shared_tensors_are_told_apart():
    model = Net(lambda m, a, table: m.high(m.low(a)) @ table + a.sum(1, keepdim=True))
    text = str(fl.split(model, (x(4), torch.randn(D, 3))).explain())
    assert "input.1: (8, 3) float32, once" in text


def test_long_lists_are_cut_and_large_sizes_have_units():
    model = nn.Sequential(*(nn.Linear(D, D) for _ in range(9)), nn.Linear(D, 700), nn.Linear(700, 2))
    fl.freeze(model, through="9")
    text = str(fl.split(model, x(4)).explain())
    assert "Frozen:    0, 1, 2, 3, 4, 5 and 4 more" in text
    assert "Stored:    2.8 KB per sample" in text


def test_noise_that_was_turned_off_is_noted():
    model = Net(lambda m, x: m.high(m.mid(torch.dropout(m.low(x), 0.5, m.training))), mid=nn.Linear(D, D))
    model.mid.requires_grad_(False)
    assert "runs in inference mode: it feeds frozen layers" in str(fl.split(model, x(4)).explain())
    assert "Note:" not in str(fl.split(Net(FORWARDS["plain"]), x(4)).explain())


def test_parameters_of_mixed_modules_are_listed():
    model = Net(lambda m, x: m.high(m.low(x) + m.prompt))
    model.prompt, model.scale = nn.Parameter(torch.zeros(D)), nn.Parameter(torch.ones(()), requires_grad=False)
    explanation = fl.split(model, x(4)).explain()
    assert explanation.trainable == ("prompt", "high", "code")
    assert explanation.frozen == ("scale", "low")


def test_frozen_layers_behind_trainable_ones_are_noted():
    """As those around an adapter or behind a prompt: a practitioner may think that they are saved."""
    model = Net(lambda m, x: m.mid(m.high(m.low(x))), mid=nn.Linear(D, D))
    model.mid.requires_grad_(False)
    note = next(own for own in fl.split(model, x(4)).explain().notes if "behind trainable" in own)
    assert note.startswith(f"{D * D + D} of {2 * (D * D + D)} frozen parameters are read behind trainable layers (mid)")
    plain = Net(lambda m, x: m.high(m.mid(m.low(x))), mid=nn.Linear(D, D))
    plain.mid.requires_grad_(False)
    assert not any("behind trainable" in own for own in fl.split(plain, x(4)).explain().notes)


def test_a_parameter_that_a_freeze_took_along_is_noted():
    """Such as the weights of several losses, which the model itself holds: freeze(through=) freezes them too."""
    model = Net(lambda m, x: (m.high(m.low(x) + m.token), m.log_var))
    model.token, model.log_var = nn.Parameter(torch.zeros(D)), nn.Parameter(torch.zeros(2))
    fl.freeze(model, through="low")
    notes = fl.split(model, x(4)).explain().notes
    assert any(note.startswith("log_var is frozen, and the trainable part reads it") for note in notes)
    assert not any("token" in note for note in notes)  # the frozen part reads it
    model.log_var.requires_grad_(True)
    assert fl.split(model, x(4)).explain().notes == ()


def test_a_little_that_is_only_returned_is_not_worth_a_note():
    model = Net(
        lambda m, a: {"logits": m.top(m.wide(a)), "kept": m.one(a)}, wide=nn.Linear(D, 40 * D), one=nn.Linear(D, 1)
    )
    model.wide.requires_grad_(False)
    model.one.requires_grad_(False)
    model.top = nn.Linear(40 * D, 2)
    assert not any("no trainable layer reads" in own for own in fl.split(model, x(4)).explain().notes)


def test_features_that_the_model_only_returns_are_noted():
    """Such as keys and values that a decoder keeps for generation."""
    model = Net(lambda m, a, b: {"logits": m.high(m.low(a)), "kept": m.low(b)})
    note = next(own for own in fl.split(model, (x(4), x(4))).explain().notes if "no trainable layer reads" in own)
    assert "the model returns it as it is, 32 bytes of 64 bytes per sample" in note
    assert "use_cache = False" in note
    model = Net(lambda m, a, b: {"logits": m.high(m.low(a)), "too": m.high(m.low(b))})
    assert not any("no trainable layer reads" in own for own in fl.split(model, (x(4), x(4))).explain().notes)
