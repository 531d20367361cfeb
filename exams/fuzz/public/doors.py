"""Doors: the public functions and methods that a fuzzed call goes through, with a pool for each parameter."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from exams.fuzz.public.pools import UNSET, Call, Pool, World

# Kinds of `states.model_state` that a training moves, and that a change of layers moves.
TRAINED = frozenset({"parameter", "buffer", "gradient"})
ANYTHING = frozenset(
    {"type", "mode", "hooks", "attributes", "parameter", "requires_grad", "gradient", "buffer", "tensor hooks"}
)
GENERATORS = frozenset({"generator of torch", "generator of numpy", "generator of python"})


@dataclass(frozen=True)
class Door:
    """One public function, method or command.

    Attributes:
        name: As a reader writes it: `Split.extract`.
        target: What is called; its signature says which parameters need a pool.
        pools: A pool for each parameter, and for what must stand before the call (a model to split).
        prepare: What must stand before the call; an error in it is none of this call.
        run: The call.
        on_success: Kinds of changes in the model that the call is for.
        also: Kinds of changes that a parameter asks for, if it is passed.
        on_error: Kinds of changes that may stay behind an error.
        moves: What else the call moves, since user code runs in it.
        allowed: Exceptions of Python's own protocols.
        cost: About how many cheap calls it takes.
    """

    name: str
    target: Callable[..., Any]
    pools: Mapping[str, Pool]
    run: Callable[[World, Any, dict[str, Any]], Any]
    prepare: Callable[[World], Any] = field(default=lambda world: None)
    on_success: frozenset[str] = frozenset()
    also: Mapping[str, frozenset[str]] = field(default_factory=dict)
    on_error: frozenset[str] = frozenset()
    moves: frozenset[str] = frozenset()
    allowed: tuple[type[BaseException], ...] = ()
    cost: int = 1
    owner: str = "training"

    @property
    def defaults(self) -> dict[str, str]:
        """The label of each parameter in a minimised call."""
        return {name: pool.default for name, pool in self.pools.items()}

    def own_parameters(self) -> list[str]:
        """The parameters of the call itself."""
        return [name for name in inspect.signature(self.target).parameters if name not in ("self", "args", "kwargs")]

    def values(self, call: Call, world: World, on_model: Callable[[Any], Any] | None = None) -> dict[str, Any]:
        """Make the values of a call, the model first; `on_model` is done to it before the others are made."""
        for name, pool in self.pools.items():
            if call.labels[name] != UNSET:
                world.values[name] = pool.make(call.labels[name], world)
                if name in ("model", "target") and on_model is not None:
                    on_model(world.values[name])
        own = set(self.own_parameters())
        return {name: value for name, value in world.values.items() if name in own}


def function(name: str, target: Callable[..., Any], pools: Mapping[str, Pool], **options: Any) -> Door:
    """The door of a plain function, which is called by keywords."""
    return Door(name, target, pools, lambda world, prepared, values: target(**values), **options)


def method(
    name: str,
    target: Callable[..., Any],
    pools: Mapping[str, Pool],
    prepare: Callable[[World], Any],
    finish: Callable[[Any], Any] = lambda result: result,
    **options: Any,
) -> Door:
    """The door of a method of what `prepare` gives; `finish` uses the result as people do."""
    return Door(
        name, target, pools, lambda world, prepared, values: finish(target(prepared, **values)), prepare, **options
    )
