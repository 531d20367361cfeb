"""The heads of a sweep: copies of the given head, one for each setting, and the best one put back."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core.errors import DataError
from frostline.core.layers import submodule
from frostline.recipes.solved_head import solve_head
from frostline.selection import (
    LoopedHeads,
    dropout_layers,
    find_output_layer,
    hidden_layer,
    make_families,
    with_dropout,
    with_module,
)
from frostline.splitting import copied_head, model_of, runs_own_forward

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frostline.selection import HeadCourse, Heads, HeadSetting, OutputLayer, Ways

_AGAIN = "split the model again, and fill its cache again (its rows are there), before you train it"


class SweptHead:
    """A head, of which many copies are trained.

    Args:
        head: The user's, which stays as it is until `put_in`.
        ways: Loss and optimizers.

    Attributes:
        base: A copy of it, on the device of the sweep.
        device: A GPU if there is one, else where the head is.
    """

    def __init__(self, head: nn.Module, ways: Ways) -> None:
        own = next(head.parameters(), torch.empty(0)).device
        self.device = torch.device("cuda") if torch.cuda.is_available() and own.type == "cpu" else own
        self.base = copied_head(head, self.device)
        self._head, self._ways = head, ways
        self._layer: OutputLayer | None = None

    def families(self, settings: Sequence[HeadSetting], batch: tuple[Any, Any]) -> list[Heads]:
        """The heads of all settings, those with the same modules together.

        Raises:
            DataError: If a setting does not fit the head.
        """
        self._layer = find_output_layer(self.base, batch[0], self._ways.pick)
        groups: dict[tuple[int | None, float | None], list[HeadSetting]] = {}
        for one in settings:
            groups.setdefault((one.width, one.dropout), []).append(one)
        found: list[Heads] = []
        for group in groups.values():
            variant = self._made(group[0])
            layer = find_output_layer(variant, batch[0], self._ways.pick)
            found += make_families(
                self._made, group, self._ways, batch, layer, may_join=not runs_own_forward(self.base)
            )
        return found

    def solved(self, setting: HeadSetting, data: Any, loss: Any) -> tuple[Heads, float]:
        """(a head whose output layer is solved over the rows, its mean loss over them)."""
        head = copied_head(self.base)
        solution = solve_head(head, data, loss, setting.weight_decay)
        solution.put_into(head)
        return LoopedHeads([head], [setting], replace(self._ways, make_optimizer=_no_optimizer)), solution.loss

    def _made(self, setting: HeadSetting) -> nn.Module:
        """A new copy with the layers of a setting."""
        head, layer = copied_head(self.base), self._layer
        if setting.width is None:
            return head if setting.dropout is None else with_dropout(head, setting.dropout, layer)
        if layer is None or not layer.name:
            raise DataError(
                what="This head has no output layer that a hidden layer could stand before.",
                where=f"sweep(settings[{setting.number}]: width)",
                received="a single linear layer" if layer else "a head whose output is not that of one linear layer",
                do="put the layer into nn.Sequential(layer), and split again." if layer
                else "leave width out of the settings, or build heads of several widths and sweep each.",
            )  # fmt: skip
        return with_module(head, layer.name, self._hidden(head, setting, layer.name))

    def _hidden(self, head: nn.Module, setting: HeadSetting, name: str) -> nn.Sequential:
        linear = submodule(head, name)
        assert isinstance(linear, nn.Linear)
        return hidden_layer(linear, setting.width or 1, setting.dropout or 0.0, setting.seed)

    def put_in(self, best: HeadCourse) -> tuple[str, ...]:
        """Put the weights of a head into the model; what the model does not hold is returned as notes.

        If it fails half-way, the model is put back.
        """
        setting, state = best.setting, dict(best.state)
        model, notes = model_of(self._head), list[str]()
        with ExitStack() as undo:
            if setting.width is not None and self._layer is not None:
                name = self._layer.name
                old, new = submodule(model, name), self._hidden(model, setting, name)
                undo.callback(with_module, model, name, old)
                own = {
                    key.removeprefix(f"{name}."): state.pop(key) for key in list(state) if key.startswith(f"{name}.")
                }
                new.load_state_dict(own)
                with_module(model, name, new)
                notes.append(
                    f"the layer {name!r} of the model is a hidden layer of {setting.width} units and an output layer "
                    f"now: {_AGAIN}"
                )
            elif setting.dropout is not None:
                layers = dropout_layers(self._head)
                changed = [name for name, layer in layers.items() if layer.p != setting.dropout]
                for name in changed:
                    undo.callback(setattr, layers[name], "p", layers[name].p)
                    layers[name].p = setting.dropout
                if changed:
                    notes.append(f"the dropout of {', '.join(map(repr, changed))} is {setting.dropout:g} now: {_AGAIN}")
                if not layers and setting.dropout:
                    notes.append("the dropout was noise of the training only: the model has no layer for it")
            held = {**dict(self._head.named_parameters()), **dict(self._head.named_buffers())}
            with torch.no_grad():
                for name, value in state.items():
                    undo.callback(_write, held[name], held[name].detach().clone())
                    held[name].copy_(value)
            undo.pop_all()
        return tuple(notes)


def _no_optimizer(*_: Any) -> Any:
    """A solved head takes no steps."""


def _write(tensor: Tensor, value: Tensor) -> None:
    with torch.no_grad():
        tensor.copy_(value)
