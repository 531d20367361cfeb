"""Modules that were written for stored layers, filled and compared."""

import importlib.util

import torch

from frostline.porting.plan.execution import carry_out
from frostline.porting.plan.port_plan import make_plan
from frostline.porting.proof.module_outputs import difference, outputs_of
from frostline.porting.proof.reference import reference_of
from frostline.porting.proof.trials import settle
from frostline.porting.scaffold.module_text import module_text
from helpers_interpreting import alone


def built(text, folder):
    """The module of a text."""
    path = folder / "written.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("written", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Network()


def filled(source, folder):
    """The module that is written for a network, with its weights."""
    model = built(module_text(source, "file"), folder).eval()
    plan = make_plan(source, "file", model)
    carry_out(settle(plan, model, reference_of(source, plan, model).goldens)[0], model)
    return model


def error(file, name, folder):
    """How far the written layer is from what Keras gave."""
    source, inputs, expected = alone(file, name)
    model = filled(source, folder)

    def moved(value):
        return value.movedim(-1, 1) if value.ndim > 3 else value

    found = outputs_of(model, tuple(moved(value) if value.is_floating_point() else value.long() for value in inputs))
    return difference(found or [torch.empty(0)], [moved(expected)])
