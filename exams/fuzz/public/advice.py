"""Remedies: what an error tells people to call is called, and the same error must not come again."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

import frostline as fl
from exams.fuzz.public.datasets import plain
from exams.fuzz.public.doors import Door
from exams.fuzz.public.pools import Call
from exams.fuzz.public.states import place
from exams.fuzz.public.tensors import batch
from exams.fuzz.public.verdicts import Fault, Verdict, judge

_NAME = re.compile(r"\b(?:frostline|fl)\.([a-z_]+(?:\.[a-z_]+)?)\(")
_MODE = re.compile(r"\bmodel\.(eval|train)\(\)")
_KEYWORD = re.compile(r"(?<![\w(.])([a-z_]+)=(True|False|None|-?\d+(?:\.\d+)?|'[^']*'|\"[^\"]*\")")
_PLACEHOLDERS = {"LAYER", "NAME"}
_GUESSES = 6  # layers that are tried for LAYER
_CHANGES_MODELS = {"freeze", "thaw", "replace_head"}
_DATA = {"data": plain, "train": plain, "dataset": plain, "example": batch, "batch": batch, "inputs": batch}
_NUMBERS = {"num_classes": 50, "C": 50}


class NotUnderstood(Exception):  # noqa: N818
    """A call in a remedy that this table cannot bind."""


@dataclass(frozen=True)
class Remedy:
    """One thing to try.

    Attributes:
        text: As the error writes it.
        on_model: Done to the model first.
        values: Passed instead.
        run: Run instead of the call, if the remedy is another call.
    """

    text: str
    on_model: Callable[[Any], Any] | None = None
    values: tuple[tuple[str, Any], ...] = ()
    run: Callable[[Any], Any] | None = None


def faulty_advice(door: Door, call: Call, error: fl.FrostlineError) -> Fault | None:
    """A fault if a remedy that the error names was tried, and the same error came again."""
    for text, variants in proposals(error.do, door):
        again: list[Verdict] = []
        for remedy in variants(call):
            verdict = judge(door, call, on_model=remedy.on_model, values=dict(remedy.values), instead=remedy.run)
            if verdict.error is None or (type(verdict.error), verdict.error.what) != (type(error), error.what):
                break
            again.append(verdict)
        else:
            if again:
                return Fault(call, "remedy raises the same", place(error), f"{text}: {error.what}")
    return None


def proposals(do: str, door: Door) -> Iterator[tuple[str, Callable[[Call], list[Remedy]]]]:
    """The calls and keywords of ours that a remedy names."""
    rest = do
    for found in _NAME.finditer(do):
        text = _balanced(do, found.start())
        rest = rest.replace(text, "")
        if text.endswith(")"):
            yield text, partial(_of_call, found.group(1), text, door)
    for mode in _MODE.findall(rest):
        yield f"model.{mode}()", lambda call, mode=mode: [Remedy(mode, on_model=lambda model: getattr(model, mode)())]
    own = set(door.own_parameters())
    for name, value in _KEYWORD.findall(rest):
        if name in own and name != "fingerprint":
            yield f"{name}={value}", lambda call, at=name, to=value: [Remedy(at, values=((at, ast.literal_eval(to)),))]


def _balanced(text: str, start: int) -> str:
    depth = 0
    for at in range(text.index("(", start), len(text)):
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth == 0:
            return text[start : at + 1]
    return text[start:]


def _of_call(name: str, text: str, door: Door, call: Call) -> list[Remedy]:
    made = ast.parse(text.replace("fl.", "frostline.", 1) if text.startswith("fl.") else text, mode="eval").body
    assert isinstance(made, ast.Call)
    keywords = {keyword.arg: keyword.value for keyword in made.keywords if keyword.arg is not None}
    if any(isinstance(arg, ast.Constant) and arg.value is ... for arg in made.args):
        own = {key: ast.literal_eval(value) for key, value in keywords.items() if isinstance(value, ast.Constant)}
        if name == door.name:
            return [Remedy(text, values=tuple(own.items()))]
        return [Remedy(text, run=lambda model: fl.fit(model, plain(), epochs=1, progress=False, **own))]
    if name == "split" or name == door.name == "fit":
        return []
    if name == "fit":
        own = {key: _value(value, None, "0") for key, value in keywords.items()}
        return [Remedy(text, run=lambda model: fl.fit(model, plain(), epochs=1, progress=False, **own))]
    if name.startswith("remedies.clip_"):
        clip = getattr(fl.remedies, name.split(".")[1])(*[_value(arg, None, "") for arg in made.args])
        return [Remedy(text, values=(("clip", clip),))] if "clip" in door.own_parameters() else []
    if name in _CHANGES_MODELS or name.startswith("remedies."):
        target: Any = getattr(fl.remedies, name.split(".")[1]) if "." in name else getattr(fl, name)

        def apply(model: Any, layer: str) -> None:
            args = [_value(arg, model, layer) for arg in made.args]
            target(*args, **{key: _value(value, model, layer) for key, value in keywords.items()})

        if name == door.name:
            return [Remedy(text, run=lambda model: apply(model, ""))]
        if not any(one in text for one in (*_PLACEHOLDERS, "=...")):
            return [Remedy(text, on_model=lambda model: apply(model, ""))]
        return [Remedy(text, on_model=partial(_at_layer, apply, at)) for at in range(_GUESSES)]
    return []


def _at_layer(apply: Callable[[Any, str], None], at: int, model: Any) -> None:
    """With one of the model's layers in place of LAYER, spread over the model."""
    names = [name for name, _ in model.named_modules() if name] if isinstance(model, nn.Module) else []
    if names:
        apply(model, names[at * (len(names) - 1) // (_GUESSES - 1)])


def _value(node: ast.expr, model: Any, layer: str) -> Any:
    if isinstance(node, ast.Constant):
        return layer if node.value is ... or node.value in _PLACEHOLDERS else node.value
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(entry, model, layer) for entry in node.elts]
    if isinstance(node, ast.Name) and node.id == "model":
        return model
    if isinstance(node, ast.Name) and node.id in _DATA:
        return _DATA[node.id]()
    if isinstance(node, ast.Name) and node.id in _NUMBERS:
        return _NUMBERS[node.id]
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "model.get_submodule":
        return model.get_submodule(_value(node.args[0], model, layer))
    raise NotUnderstood(ast.unparse(node))
