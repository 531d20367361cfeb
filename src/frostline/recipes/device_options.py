"""What several devices do not take: options whose outcome follows from times, or that train in one process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from frostline.core.errors import DataError


def check_devices(devices: int, given: Mapping[str, Any]) -> None:
    """Raise if an option of `fit` is for one device.

    Args:
        devices: Of the run.
        given: Options by name, as `fit` takes them.

    Raises:
        DataError: It names the option, and what to do instead.
    """
    freeze = given["freeze"]
    chosen = {
        "cache='auto'": given["cache"] == "auto" if isinstance(given["cache"], str) else False,
        "freeze='auto'": isinstance(freeze, str) and freeze == "auto",
        "freeze": freeze is not None and (not isinstance(freeze, str) or freeze == "converged"),
        "thaw": given["thaw"] is not None,
        "monitor='heal'": given["monitor"] == "heal",
        "frozen_pass": given["frozen_pass"] is not None,
        "cache": getattr(given["cache"], "engine", "local") != "local",
    }
    for name, is_given in chosen.items():
        if devices > 1 and is_given:
            why, do = _REASONS[name]
            raise DataError(
                what=f"{name.partition('=')[0]} cannot be used like this with several devices: {why}.",
                where=f"fit({name}, devices={devices})", received=repr(given[name.partition("=")[0]]), do=do,
            )  # fmt: skip


_REASONS = {
    "cache": (
        "its devices fill the cache themselves, and so would the cluster",
        "fill first, data = cache.fill(split, dataset, engine='ray'), then fit(split.head, data, devices=...).",
    ),
    "cache='auto'": (
        "what is stored would follow from the times of each process",
        "use cache=True or cache=False; split.plan(samples) measures what pays.",
    ),
    "freeze='auto'": (
        "each process would choose a line",
        "choose it first: line = frostline.choose_depth(model, train).best, then fit(freeze=line, devices=...).",
    ),
    "freeze": (
        "a line that moves is not built for them",
        "freeze one layer for the whole run (freeze='LAYER'), or use devices=1.",
    ),
    "thaw": ("a line that moves is not built for them", "use devices=1, or thaw between two calls of fit."),
    "monitor='heal'": ("trials run in one process", "call frostline.heal first, then fit(optimizer=optimizer)."),
    "frozen_pass": (
        "which pass is faster would follow from the times of each process",
        "fill first, data = cache.fill(split, dataset, frozen_pass=...), then fit(split.head, data, devices=...).",
    ),
}
