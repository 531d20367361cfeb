"""Configurations of transformers, made small: every size that a configuration has is set, sub-configurations too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = 64
SMALL: dict[str, int] = {
    name: value["size"] for value in json.loads(Path(__file__).with_name("tiny.json").read_text())
    for name in value["names"]
}  # fmt: skip


def tiny(kind: type[Any], own: dict[str, Any]) -> Any:
    """A small configuration.

    Args:
        kind: The class of configurations.
        own: What this architecture sets otherwise; a mapping under the name of a sub-configuration goes there.
    """
    usual = kind()
    known = {name for name in (*vars(usual), *getattr(kind, "attribute_map", {})) if not name.startswith("_")}
    given: dict[str, Any] = {}
    for name in known:
        value = getattr(usual, name, None)
        if name in SMALL and (value is None or isinstance(value, int)) and not isinstance(value, bool):
            given[name] = SMALL[name]
        elif _is_config(value):
            inner = own.get(name, {})
            given[name] = tiny(type(value), inner if isinstance(inner, dict) else {})
    plain = {name: value for name, value in own.items() if not _is_config(getattr(usual, name, None))}
    return kind(**{**given, **plain})


def _is_config(value: Any) -> bool:
    return hasattr(value, "to_diff_dict") and hasattr(value, "model_type")
