"""What a model keeps in Python from call to call: attributes, containers, class attributes, globals and closures.

A graph holds numbers, texts and plain tensors as the recording read them. So the frozen part must not move them from
batch to batch (`moving_state`), they must stay what they are after the split (`watched_places`), and a split must leave
all of them as they were (`Traces`).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from frostline.core.digests import code_digest, tensor_digest
from frostline.core.errors import NotCacheable
from frostline.core.restore import GeneratorStates, drawn_generator, kept_attributes, kept_buffers
from frostline.splitting.python_state.kept_places import check_iterators, walked
from frostline.splitting.python_state.places import Place, Walk, contents, fingerprint, has_state
from frostline.splitting.python_state.sources import Source, sources_of

_DIGEST = 64  # letters of a digest of a tensor; texts are quoted
_KEYS = "keys of "  # before the name of a table: the number of its entries


def watched_places(
    modules: Mapping[str, nn.Module], sources: Iterable[Source], left: Container[str] = ()
) -> list[Place]:  # fmt: skip
    """Every number, text and plain tensor that the code may read from these modules, its globals and its closures.

    What forward itself writes is left out: it is moved by every call, and `moving_state` has looked at it.

    Args:
        modules: Modules by name.
        sources: The code that ran.
        left: Names of places that the head itself sets.
    """
    return _walked(Walk(list(sources), modules.values(), left=left), modules)


def moving_state(
    model: nn.Module,
    names: Iterable[str],
    sources: Iterable[Source],
    run: Callable[[], Any],
    *,
    has_queues: bool = True,
) -> list[str]:
    """What the named modules and the code keep that one more call of `run`, with the same batch, changes.

    Args:
        model: The model.
        names: The modules whose attributes are looked at.
        sources: The code that ran.
        run: One call.
        has_queues: Look at queues, sets and iterators too; False where the head itself moves them.
    """
    before = _contents(model, names, sources, has_queues)
    run()
    after = _contents(model, names, sources, has_queues)
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]


def state_of_first_call(
    model: nn.Module,
    names: Iterable[str],
    sources: Iterable[Source],
    runs: tuple[Callable[[], Any], Callable[[], Any]],
) -> list[str]:
    """What the first call sets from its batch, and a second one with another batch leaves as it is.

    Args:
        model: The model, as it was before any call. Its attributes are put back.
        names: The modules whose attributes are looked at.
        sources: The code that ran.
        runs: Calls with two batches.
    """
    names, sources = list(names), list(sources)

    def after(*calls: Callable[[], Any]) -> dict[str, Any]:
        with kept_buffers(model), kept_attributes(model, numbers=True):
            for call in calls:
                call()
            return _contents(model, names, sources, has_queues=False)

    before, first = after(), after(runs[0])
    changed = [name for name in first if first[name] != before.get(name)]
    if not changed:
        return []
    second, both = after(runs[1]), after(*runs)
    return [name for name in changed if both.get(name) == first[name] != second.get(name)]


def _contents(model: nn.Module, names: Iterable[str], sources: Iterable[Source], has_queues: bool) -> dict[str, Any]:
    own = dict(model.named_modules())
    modules = {name: own[name] for name in names}
    places = _walked(Walk(list(sources), modules.values(), is_complete=True), modules)
    return contents(place for place in places if has_queues or not has_state(place.value))


class Traces:
    """What all code of a model reads outside of what a split puts back: a split must leave no trace there.

    Args:
        model: The model before it is split.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model, walk = model, walked(model)
        check_iterators(walk)
        self._before = contents(walk.places)
        self._empty_memos = [memo for memo in walk.memos if not memo.cache_info().misses]
        self._filled_memos = list[Any]()
        self._training = {name: own.requires_grad for name, own in model.named_parameters()}
        self._parameters = dict(model.named_parameters())
        self._toggled: list[str] = []

    def check(self, again: Callable[[], GeneratorStates]) -> None:
        """Compare after the split.

        Args:
            again: Runs the model on other samples, in both modes and at several sizes.

        Raises:
            NotCacheable: If the runs of the split have moved something that a training begins with. A table may gain
                tensors (masks by size) if other samples give it the same ones.
        """
        if self._toggled:
            raise leaves_traces_error([f"{name}.requires_grad" for name in self._toggled])
        after = self._contents()
        moved = [name for name in {**self._before, **after} if self._before.get(name) != after.get(name)]
        gained = [name for name in moved if _is_of_cache(name, self._before, after)]
        moved = [name for name in moved if name not in gained] or self._made_otherwise(gained, again)
        moved = moved or self._drawn_for_memos(again)
        if moved:
            raise leaves_traces_error(moved)

    def _drawn_for_memos(self, again: Callable[[], GeneratorStates]) -> list[str]:
        """Functions of `functools.lru_cache` whose first call draws random numbers: a training draws its own."""
        if not self._filled_memos:
            return []
        try:
            states = again(), again()  # with empty memos, and with full ones
        finally:
            self._empty()
        return [memo.__qualname__ for memo in self._filled_memos] if drawn_generator(*states) else []

    def _empty(self) -> None:
        for memo in self._filled_memos:
            memo.cache_clear()

    def _made_otherwise(self, gained: list[str], again: Callable[[], GeneratorStates]) -> list[str]:
        """Those of these tensors that other samples do not make again: what the first batch has left."""
        places = {place.name: place for place in walked(self._model).places if place.name in gained}
        tensors = {name: place for name, place in places.items() if not name.startswith(_KEYS)}
        if not tensors:
            return []
        for place in tensors.values():
            place.take_out()
        try:
            again()
            now = self._contents()
        finally:
            for place in tensors.values():
                place.put_back()
        return [name for name, place in tensors.items() if now.get(name) != fingerprint(place.value)]

    def __enter__(self) -> Traces:
        return self

    def __exit__(self, *error: object) -> None:
        """Put back which weights train, and empty memos that were empty, on errors too."""
        self._filled_memos = [memo for memo in self._empty_memos if memo.cache_info().misses]
        self._empty()
        for name, parameter in self._parameters.items():
            if parameter.requires_grad != self._training[name]:
                parameter.requires_grad_(self._training[name])
                self._toggled.append(name)

    def _contents(self) -> dict[str, Any]:
        return contents(walked(self._model).places)


def steered_state(
    frozen: Mapping[str, nn.Module], mixed: Mapping[str, nn.Module], sources: Iterable[Source]
) -> list[str]:  # fmt: skip
    """All that a frozen part may read, as lines, where it follows the values of a batch what it reads.

    Args:
        frozen: Frozen modules: all that they keep.
        mixed: Modules of frozen and trainable parts: what their code names.
        sources: The code that ran.
    """
    known = [id(part) for module in (*frozen.values(), *mixed.values()) for part in module.modules()]
    walk = Walk([], frozen.values(), is_complete=True, reads_all=True, follows_modules=True, known=known)
    lines: list[str] = []
    for name, module in frozen.items():
        walk.module(name, module)
        tensors = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
        lines += [f"{name}.{leaf} {tensor_digest(own)}" for leaf, own in tensors.items()]
    begins = [source for module in frozen.values() for source in sources_of(module)]
    code = Walk(begins, frozen.values(), is_complete=True, follows_modules=True, known=known)
    code.scopes()
    lines += sorted({code_digest(source.code) for source in code.sources}) + sorted({*code.library, *walk.library})
    lines += code.default_numbers()
    found = (*walk.places, *code.places, *watched_places(mixed, sources))
    places = {place.name: place for place in found}
    held = (f"{name} {fingerprint(own.value)}" for name, own in places.items() if not isinstance(own.value, Iterator))
    return lines + sorted(held)  # functions are found in an order of each process


def keeps_state_error(
    names: Sequence[str], received: str = "another value after one more call with the same batch"
) -> NotCacheable:
    """The frozen part remembers batches."""
    return NotCacheable(
        what=f"The model keeps state from batch to batch outside of its trainable layers: {_shown(names)}.",
        where=names[0] if names else "the model",
        received=received,
        do="keep the state in a module of its own that is trainable and holds no frozen layers, or remove it; or train "
        "with frostline.fit(..., cache=False).",
    )


def leaves_traces_error(names: Sequence[str]) -> NotCacheable:
    """A call of the model moves what no split can put back: a cached training would begin with another value."""
    return NotCacheable(
        what=f"The model moves values outside of its modules' own attributes in every call: {_shown(names)}.",
        where=names[0],
        received="another value after the model was run to split it",
        do="keep that value in a plain attribute or a buffer of a module, as a number or a tensor; or train with "
        "frostline.fit(..., cache=False).",
    )


def _walked(walk: Walk, modules: Mapping[str, nn.Module]) -> list[Place]:
    for name, module in modules.items():
        walk.module(name, module)
    walk.scopes()
    return walk.places


def _is_of_cache(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """True for a tensor that a table of tensors (by size, or the like) has gained, and for the number of its keys."""
    is_tensor = isinstance(after.get(name), str) and len(after[name]) == _DIGEST and after[name][0] not in "'\""
    is_gained = name not in before and is_tensor and f"{_KEYS}{name.rpartition('[')[0]}" in after
    return is_gained or name.startswith(_KEYS)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:4])
