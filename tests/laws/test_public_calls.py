"""Every public call with odd arguments: a result, or an error in four parts whose remedy helps; nothing else moves."""

from __future__ import annotations

import inspect
import random

import pytest

import frostline as fl
from exams.fuzz.public.catalogue import DOORS, defaults_of, drawn
from exams.fuzz.public.laws import checked
from frostline import data
from frostline.cli.main import app

_CALLS = 10  # of a cheap door; dearer ones get fewer

# Public names without a door, each with the reason.
RECORDS = {
    "CachedDataset": "made by FeatureCache.fill; its methods have doors",
    "Certificate": "a record that port gives; what reads it back has a door, the command",
    "Clip": "made by clip_by_...; its methods have doors",
    "Split": "made by split; its methods have doors",
    "ActivationPrice": "a record that price_activations gives",
    "Clipped": "a record that a clip gives",
    "DepthReport": "a record that choose_depth gives",
    "Diagnosis": "a record that checkup gives",
    "Finding": "a record that rules give",
    "FitResult": "a record that fit gives",
    "FoldCertificate": "a record that fold_batchnorm gives",
    "FreezeSummary": "a record that freeze gives",
    "FrontierTensor": "a record that split gives",
    "Healing": "a record that heal gives",
    "PriceTable": "a record that price_activations gives",
    "ReuseSummary": "a record that reuse gives",
    "SweepResult": "a record that sweep gives",
    **{
        name: "an error"
        for name in fl.__all__
        if inspect.isclass(getattr(fl, name)) and issubclass(getattr(fl, name), Exception)
    },
}
# Methods and attributes of public classes without a door, each with the reason.
METHODS = {
    "Split.head": "an attribute; its call has a door",
    "CachedDataset.frontier": "a tuple that was made when the cache was filled",
    "CachedDataset.lengths": "a tensor that follows from the rows",
    "CachedDataset.note_given": "called by FeatureCache.fill, which has a door, with a record that it makes",
    "FitResult": "a record",
    "Split.check_padded_loss": "called by fit(collate_fn=...), which has a door, with features that it makes",
    "Split.faster": "called by FeatureCache.fill(frozen_pass=...), which has a door, with names that it has checked",
    "Split.follow_lengths": "called by FeatureCache.fill(collate_fn=...), which has a door, with batches that it makes",
    "Split.storing": "called by Split.follow, which has a door, with the addresses of a plan",
    "Split.prove_padded": "called by FeatureCache.fill(collate_fn=...), which has a door, with features that it makes",
    "Split.sent": "called by FeatureCache.fill(engine='ray'), which has a door, without arguments",
    "Clip.state_dict": "takes nothing, and its result is what load_state_dict gets",
}


PROTOCOLS = ("__call__", "__getitem__", "__getitems__")


def public_names():
    spaces = {"": fl, "remedies.": fl.remedies, "data.": data}
    for prefix, space in spaces.items():
        for name in getattr(space, "__all__", None) or vars(space):
            value = getattr(space, name)
            if not name.startswith("_") and not inspect.ismodule(value):
                yield f"{prefix}{name}", value


def test_every_public_name_has_a_door_or_a_reason():
    missing = [name for name, _ in public_names() if name not in DOORS and name.split(".")[-1] not in RECORDS]
    assert missing == []


def test_every_method_of_what_calls_give_has_a_door():
    kinds = (fl.Split, fl.FeatureCache, fl.CachedDataset, fl.Monitor, fl.remedies.Clip)
    methods = [
        f"{kind.__name__}.{name}"
        for kind in kinds
        for name, value in vars(kind).items()
        if inspect.isfunction(value)
        and (not name.startswith("_") or name in ("__call__", "__getitem__", "__getitems__"))
    ]
    assert [name for name in methods if name not in DOORS and name not in METHODS] == []


def test_every_parameter_of_a_door_has_values():
    lacking = {
        name: [parameter for parameter in door.own_parameters() if parameter not in door.pools]
        for name, door in DOORS.items()
    }
    assert {name: parameters for name, parameters in lacking.items() if parameters} == {}


def test_every_command_and_option_has_a_door():
    from typer.main import get_command

    def commands(command, words):
        for name, sub in command.commands.items():
            if hasattr(sub, "commands"):
                yield from commands(sub, [*words, name])
            else:
                options = {option[2:].replace("-", "_") for p in sub.params for option in p.opts if option[:2] == "--"}
                yield " ".join([*words, name]), options

    for name, options in commands(get_command(app), ["cli"]):
        assert options - {"help"} <= set(DOORS[name].pools), name


@pytest.mark.parametrize("name", DOORS)
def test_public_calls_keep_the_law(name):
    door, source = DOORS[name], random.Random(0)
    faults = []
    for _ in range(max(2, _CALLS // door.cost)):
        call = drawn(door, source)
        fault = checked(door, call).fault
        if fault is not None:
            faults.append(f"{fault.kind} at {fault.place}: {call.plainly(defaults_of(door))}: {fault.detail}")
    assert faults == []
