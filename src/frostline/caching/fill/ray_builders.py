"""A fill on a Ray cluster: actors hold the frozen part, take ranges of samples, and publish shards to the same cache.

An actor that dies loses at most the range it was at, which another one gets; rows that it had published are found. The
cache is the one door between them: what a range has given comes back as keys and targets only.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from frostline.caching.fill.builders import Alone, SamplePart
from frostline.caching.fill.ray_ranges import Ranges
from frostline.caching.samples.lengths import of_any_length
from frostline.caching.samples.views import viewed
from frostline.caching.store.shard_writer import SHARD_BYTES
from frostline.core.errors import CacheError, DataError, FrostlineError

if TYPE_CHECKING:
    from frostline.caching.fill.fill import Filling
    from frostline.caching.fill.fill_plan import FillPlan
    from frostline.caching.location.location import Location
    from frostline.caching.part import FrozenPart

ENGINES = ("local", "ray")
_RANGES = 4  # for each actor, at least: what a dead one loses, and what the last one keeps the others waiting for


@runtime_checkable
class CanBeSent(Protocol):
    """A frozen part that can be made again in another process, as a `Split` can."""

    def sent(self) -> Callable[[], FrozenPart]:
        """What makes it there, from values that can be pickled."""
        ...


@dataclass(frozen=True, repr=False)  # a text of it would hold the whole dataset
class Order:
    """What an actor fills.

    Attributes:
        location: Of the cache; its folder or URL is the same on every machine.
        remake: Makes the frozen part.
        dataset: The whole dataset, views of it included.
        batch_size: Samples per pass.
        num_workers: Processes that read, of each actor.
        views: Of each sample, or None.
        collate_fn: Of samples that differ in size, or None.
        storage: How rows lie in shards.
        recipe: Of the frozen part.
        fill: What fills a cache in one process.
    """

    location: Location
    remake: Callable[[], FrozenPart]
    dataset: Any
    batch_size: int
    num_workers: int
    views: int | None
    collate_fn: Any
    storage: str
    recipe: dict[str, str]
    fill: Callable[..., Any]


class RayBuilders(Alone):
    """Actors of a Ray cluster read the samples of a fill.

    Args:
        order: What they fill.

    Raises:
        DataError: If Ray is not installed.
    """

    are_many = True

    def __init__(self, order: Order) -> None:
        self._ray, self._order = _ray(), order

    def read(self, filling: Filling, plan: FillPlan, unread: Sequence[int], advance: Callable[[int], None]) -> None:
        """Give out ranges until all are done; what no actor gets on with is read here."""
        with self._cluster():
            order, size = self._put(self._order), self._range_size(len(unread), filling.storage.row_bytes)
            parts = [list(unread[start : start + size]) for start in range(0, len(unread), size)]
            ranges = Ranges(self._ray, parts, lambda: self._actor(order),
                            self._num_actors, lambda indices: filling.read(plan, indices, advance))  # fmt: skip

            def take(part: SamplePart) -> None:
                filling.adopt(part)
                advance(len(part.indices))

            try:
                ranges.run(take)
            except self._ray.exceptions.RayTaskError as error:
                raise told(error) from error
            filling.opened.notes += ranges.notes()

    def _num_actors(self) -> int:
        """As many as the cluster has room for, now: it may have grown."""
        resources = self._ray.cluster_resources()
        return max(1, int(resources.get("GPU" if self._needs_gpu else "CPU", 1)))

    @property
    def _needs_gpu(self) -> bool:
        model: Any = getattr(self._order.remake, "args", (None,))[0]
        return any(p.device.type == "cuda" for p in model.parameters()) if hasattr(model, "parameters") else False

    def _actor(self, order: Any) -> Any:
        return self._ray.remote(num_cpus=1, num_gpus=int(self._needs_gpu))(Builder).remote(order)

    def _range_size(self, count: int, row_bytes: int) -> int:
        """Samples of a range: no more than make a full shard, so that nothing has to be merged over ranges."""
        even = -(-count // (_RANGES * self._num_actors()))
        return max(1, self._order.batch_size, min(even, SHARD_BYTES // max(1, row_bytes)))

    def _put(self, order: Order) -> Any:
        try:
            return self._ray.put(order)
        except Exception as error:  # whatever a part of it raises while it is pickled
            cause = error.__cause__ or error
            raise DataError(
                what="The model or the dataset cannot be sent to another process.", where="fill(engine='ray')",
                received=f"{type(cause).__name__}: {str(cause).strip().splitlines()[0][:300]}",
                do="open files, connections and locks in __getitem__ instead of __init__, and define classes in a "
                "module, not in a function; or fill with engine='local'.",
            ) from error  # fmt: skip

    @contextmanager
    def _cluster(self) -> Generator[None]:
        """Inside, Ray runs: the caller's, that of RAY_ADDRESS, or one of this machine for the time of the fill."""
        if self._ray.is_initialized():
            yield
            return
        where: dict[str, Any] = {} if os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
        self._ray.init(log_to_driver=False, **where)
        try:
            yield
        finally:
            self._ray.shutdown()


class Builder:
    """An actor: it holds the frozen part.

    Args:
        order: What it fills.

    Raises:
        CacheError: If the frozen part is another one here.
    """

    def __init__(self, order: Order) -> None:
        self._order, self._part = order, order.remake()
        self._error: FrostlineError | None = None
        samples, self._padding = of_any_length(self._part, order.dataset, order.collate_fn)
        self._samples = viewed(samples, "fill", order.views)
        differing = [key for key, own in order.recipe.items() if self._part.recipe.get(key) != own]
        if differing:
            self._error = CacheError(
                what="The frozen part is another one in the processes of the cluster.", where="fill(engine='ray')",
                received=f"another {differing[0]}: {self._part.recipe.get(differing[0])!r}, not "
                f"{order.recipe[differing[0]]!r}",
                do="use the same versions of Python and torch on all machines; of a plan that computes values again "
                "(Split.follow), fill with engine='local'.",
            )  # fmt: skip

    def ready(self) -> None:
        """Answers when the actor has started."""

    def fill(self, indices: Sequence[int]) -> SamplePart:
        """Read these samples, and publish the rows that are missing."""
        if self._error is not None:
            raise self._error
        order, noted = self._order, _Noted(self._order.views or 1)
        order.fill(
            order.location, self._part, _Chosen(self._samples, indices), order.batch_size, order.num_workers,
            progress=False, is_fresh=True, padding=self._padding, storage=order.storage, builders=noted,
        )  # fmt: skip
        assert noted.found is not None
        return SamplePart(indices, noted.found.keys, noted.found.targets, noted.found.passed, noted.found.computed,
                          noted.found.shards, noted.found.error)  # fmt: skip


class _Noted(Alone):
    """Keeps what a fill has found.

    Args:
        views: Of each sample of the whole dataset.
    """

    def __init__(self, views: int) -> None:
        self.found: SamplePart | None = None
        self.views = views

    def end(self, filling: Filling) -> None:
        self.found = filling.sample_part(range(len(filling.dataset)))


class _Chosen:
    """Some samples of a dataset, with what it offers of them."""

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self._dataset, self._indices = dataset, indices
        for name in ("sample_key", "target"):
            if callable(own := getattr(dataset, name, None)):
                vars(self)[name] = lambda at, own=own: own(indices[at])
        if hasattr(dataset, "fingerprint"):
            self.fingerprint = dataset.fingerprint

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, at: int) -> Any:
        return self._dataset[self._indices[at]]


def check_engine(call: str, engine: Any) -> str:
    """The name of an engine, checked.

    Raises:
        DataError: If there is none of this name.
    """
    if engine not in ENGINES:
        raise DataError(
            what="There is no such engine.", where=f"{call}(engine=...)", received=repr(engine),
            do="use 'local', this process, or 'ray', the processes of a Ray cluster.",
        )  # fmt: skip
    return engine


def sent(part: FrozenPart) -> Callable[[], FrozenPart]:
    """What makes a frozen part in another process.

    Raises:
        DataError: If nothing does.
    """
    if not isinstance(part, CanBeSent):
        raise DataError(
            what="This frozen part cannot be sent to the processes of a cluster.", where="fill(engine='ray')",
            received=type(part).__name__, do="pass what frostline.split gives, without frozen_pass; or use "
            "engine='local'.",
        )  # fmt: skip
    return part.sent()


def _ray() -> Any:
    try:
        importlib.import_module("ray.exceptions")
        return importlib.import_module("ray")
    except ImportError as error:
        raise DataError(
            what="Ray is not installed.", where="fill(engine='ray')", received=str(error),
            do="pip install 'frostline[ray]', or use engine='local'.",
        ) from error  # fmt: skip


def told(error: Any) -> Exception:
    """The error of a builder itself, with its four parts where it has them."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, FrostlineError):
        return type(cause)(**{**cause.parts(), "where": f"{cause.where} (a builder of the cluster)"})
    return DataError(
        what="A builder of the cluster stopped: the model or the dataset raised an error.", where="fill(engine='ray')",
        received=f"{type(cause).__name__}: {str(cause)[:300]}",
        do="correct what the error names; engine='local' meets it in this process.",
    )  # fmt: skip
