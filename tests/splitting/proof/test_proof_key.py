import enum
import functools
import os

import torch
from torch import nn

import frostline as fl
from frostline.core.restore import kept_modes
from frostline.splitting.plan.graph_plan import record_plan
from frostline.splitting.proof import proof_key as module
from frostline.splitting.proof.proof_key import proof_key, samples_text
from frostline.splitting.recording.run_record import RecorderSettings
from helpers_splitting import D, Net

SCALE = 2.0


class Block(nn.Module):
    """A trainable part with a number, a buffer and a global."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.power = nn.Linear(D, D), 1.0
        self.register_buffer("shift", torch.zeros(D))

    def forward(self, batch):
        return self.layer(batch) * self.power * SCALE + self.shift


def made():
    torch.manual_seed(0)
    model = Net(lambda m, batch: m.high(m.block(m.low(batch))), block=Block())
    model.low.requires_grad_(False)
    return model


def key(model=None, batch=None):
    model = model or made()
    with kept_modes(model):
        plan, head = record_plan(model, torch.ones(4, D) if batch is None else batch, RecorderSettings(is_whole=True))
        return proof_key(model, plan, head)


def changed(one, other):
    assert one is not None
    assert other is not None
    return {name for name in one if one[name] != other[name]}


def test_the_same_model_and_samples_have_the_same_key():
    assert key() == key()


def test_values_of_trainable_weights_are_no_part_of_it():
    model = made()
    with torch.no_grad():
        model.high.weight.mul_(2)
        model.block.layer.weight.mul_(2)
    assert key(model) == key()


def test_a_bit_of_the_frozen_part_changes_it():
    model = made()
    with torch.no_grad():
        model.low.weight[0, 0] = torch.nextafter(model.low.weight[0, 0], torch.tensor(9.0))
    assert "recipe" in changed(key(), key(model))


def test_a_frozen_weight_that_only_larger_batches_read_changes_it():
    def made_of(scale):
        torch.manual_seed(0)
        model = Net(lambda m, batch: (len(batch) < 4 or m.other(batch) is None, m.high(m.low(batch)))[1],
                    other=nn.Linear(D, D))  # fmt: skip
        model.other.requires_grad_(False).weight.data.mul_(scale)
        return model

    with kept_modes(made_of(1)):
        plan, _ = record_plan(made_of(1), torch.ones(4, D), RecorderSettings(is_whole=True))
    assert {"low.weight", "other.weight"} <= set(plan.weights)
    assert "other.weight" not in plan.digested
    assert changed(key(made_of(1)), key(made_of(2))) == {"weights"}


def test_a_frozen_weight_that_only_the_trainable_part_reads_changes_it():
    models = made(), made()
    for model in models:
        model.block.layer.bias.requires_grad_(False)
    with torch.no_grad():
        models[1].block.layer.bias.add_(1)
    assert changed(*map(key, models)) == {"weights"}


def test_a_number_a_buffer_and_a_global_of_the_trainable_part_change_it(monkeypatch):
    plain = key()
    model = made()
    model.block.power = 3.0
    assert "code and state" in changed(plain, key(model))
    model = made()
    model.block.shift.add_(1)
    assert "weights" in changed(plain, key(model))
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    assert "code and state" in changed(plain, key())


def test_code_of_the_trainable_part_changes_it(monkeypatch):
    plain = key()
    monkeypatch.setattr(Block, "forward", lambda self, batch: self.layer(batch) * self.power * SCALE - self.shift)
    assert "code and state" in changed(plain, key())


def test_layers_modes_hooks_and_what_trains_change_it():
    plain = key()
    deeper = made()
    deeper.block.layer = nn.Sequential(nn.Linear(D, D))
    assert {"modules", "weights"} <= changed(plain, key(deeper))
    hooked = made()
    hooked.block.layer.register_full_backward_hook(lambda module, grad_in, grad_out: None)
    assert "modules" in changed(plain, key(hooked))
    still = made()
    still.block.layer.bias.requires_grad_(False)
    assert "weights" in changed(plain, key(still))
    tied = made()
    tied.high.weight = tied.block.layer.weight
    assert "weights" in changed(plain, key(tied))


def test_samples_precision_and_versions_change_it(monkeypatch):
    plain = key()
    assert changed(plain, key(batch=torch.zeros(4, D))) == {"samples"}
    assert "numerics" in changed(plain, key(made().double(), torch.ones(4, D).double()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert "numerics" in changed(plain, key())
    monkeypatch.setattr(torch, "__version__", "99.0")
    assert changed(plain, key()) == {"versions"}
    monkeypatch.undo()
    monkeypatch.setattr(module, "version", lambda name: "99.0")
    assert changed(plain, key()) == {"versions"}


def test_texts_of_samples_hold_structure_and_values():
    batch = torch.ones(2, 3)
    texts = {samples_text(value) for value in (batch, batch * 2, batch.double(), {"x": batch}, (batch,), (batch, None))}
    assert len(texts) == 6


def test_what_has_no_text_is_not_remembered():
    model = made()
    model.block.order = iter([1, 2])
    assert key(model) is None
    assert fl.split(model, torch.ones(4, D)).num_guards == 0


def test_what_is_remembered_has_every_field(monkeypatch):
    plain = key()
    monkeypatch.setattr(module, "_SCHEMA", "99")
    assert changed(plain, key()) == {"schema"}
    assert set(plain) == {"schema", "versions", "numerics", "recipe", "modules", "weights", "code and state", "head",
                          "samples"}  # fmt: skip


class Recipe(enum.Enum):
    PLAIN = 1
    OTHER = 2


class Step:
    def __init__(self, scale):
        self.scale = scale

    def __call__(self, module, inputs, output):
        return output * self.scale

    def hook(self, module, inputs, output):
        return output * self.scale


class OtherStep(Step):
    def __call__(self, module, inputs, output):
        return output + self.scale


KIND, CHOSEN = Recipe.PLAIN, torch.relu


class Steered(Block):
    def forward(self, batch):
        if KIND is Recipe.PLAIN and os.environ.get("FROSTLINE_TEST_KIND") is None:
            return self.layer(CHOSEN(batch))
        return self.layer(batch)


class Table(dict):
    """A dictionary with attributes."""


class ByTable(Block):
    def forward(self, batch):
        return self.layer(batch) * self.table.scale


def with_block(block):
    model = made()
    model.block = block
    return model


def hooked(hook):
    model = made()
    model.block.layer.register_forward_hook(hook)
    return key(model)


def multiplied(module, inputs, output, scale):
    return output * scale


def scaled(scale):
    return lambda module, inputs, output: output * scale


def test_what_a_hook_holds_changes_it():
    for make in (
        Step,
        lambda scale: Step(scale).hook,
        scaled,
        lambda scale: functools.partial(multiplied, scale=scale),
    ):
        assert "code and state" in changed(hooked(make(1.0)), hooked(make(3.0)))
    assert hooked(Step(1.0)) == hooked(Step(1.0))
    assert "code and state" in changed(hooked(Step(1.0)), hooked(OtherStep(1.0)))


def test_a_member_of_an_enum_the_environment_and_the_choice_of_a_function_change_it(monkeypatch):
    plain = key(with_block(Steered()))
    monkeypatch.setitem(globals(), "KIND", Recipe.OTHER)
    assert changed(plain, key(with_block(Steered()))) == {"code and state"}
    monkeypatch.undo()
    monkeypatch.setenv("FROSTLINE_TEST_KIND", "other")
    assert changed(plain, key(with_block(Steered()))) == {"code and state"}
    monkeypatch.undo()
    monkeypatch.setitem(globals(), "CHOSEN", torch.tanh)
    assert changed(plain, key(with_block(Steered()))) == {"code and state"}


def test_attributes_of_a_dictionary_change_it():
    def keyed(scale):
        block = ByTable()
        block.table = Table()
        block.table.scale = scale
        return key(with_block(block))

    assert keyed(1.0) == keyed(1.0)
    assert changed(keyed(1.0), keyed(3.0)) == {"code and state"}


def test_functions_of_one_code_count_with_what_each_holds():
    def keyed(scale):
        block = Block()
        block.steps = [scaled(1.0), scaled(scale)]
        return key(with_block(block))

    assert keyed(2.0) == keyed(2.0)
    assert changed(keyed(2.0), keyed(3.0)) == {"code and state"}


def test_nothing_is_remembered_while_a_hook_of_all_modules_runs():
    handle = torch.nn.modules.module.register_module_forward_hook(lambda module, inputs, output: None)
    try:
        assert key() is None
    finally:
        handle.remove()
    assert key() is not None
