"""The same weights in a file of another order, under names without a meaning, or both: containers are written anew.

Names of layers are replaced part by part (`encoder.0.attn` becomes `qwhzk.fjvuw.tmzpa` wherever it stands), so that
the tensors of a layer stay together; the names of tensors within a layer (`weight`, `kernel`) stay, as they are part of
a format. An ONNX graph gets new names for all of its values, and its nodes in another order that the graph allows.
"""

from __future__ import annotations

import json
import random
import string
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .trials import attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import onnx

    from .stored import Stored
    from .trials import Verdict

MODE = "shuffled"
KINDS = ("order", "names", "names and order")
ENDS = (".safetensors", ".npz", ".pt", ".onnx")
# Parts of names that a framework gives: collections, the dense parts of cells, and of attention.
FIXED = {"params", "batch_stats", "query", "key", "value", "out"} | {s + g for s in "ih" for g in "ifgorzn"}
Tensors = dict[str, Any]


def is_rewritable(network: Stored, file: str) -> bool:
    """Whether the container can be written anew without its framework; code, and packages' graphs, are left alone."""
    is_package = file.endswith(".onnx") and network.framework == "public"
    return file.endswith(ENDS) and file != "script.pt" and not is_package


def shuffled(network: Stored, file: str, seed: int) -> Verdict:
    """Port from a copy of the file in which order, names, or both are random."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file
        rewrite(network.path / file, path, random.Random(seed), KINDS[seed % len(KINDS)])
        return attempt(network, file, MODE, path=path)


def rewrite(path: Path, to: Path, chance: random.Random, kind: str) -> None:
    """Write the weights of a file anew.

    Args:
        path: The file.
        to: Where the copy goes; its ending is that of the file.
        chance: Where names and orders come from.
        kind: What is random, one of `KINDS`.
    """
    has_names, has_order = "names" in kind, "order" in kind
    if path.suffix == ".onnx":
        _rewrite_onnx(path, to, chance, has_names=has_names, has_order=has_order)
        return

    def change(tensors: Tensors, separator: str) -> Tensors:
        names = list(tensors)
        if has_order:
            chance.shuffle(names)
        new = new_names(names, separator, chance) if has_names else {name: name for name in names}
        return {new[name]: tensors[name] for name in names}

    _WRITERS[path.suffix](path, to, change, chance if has_order else None)


def new_names(names: Iterable[str], separator: str, chance: random.Random) -> dict[str, str]:
    """By name, one whose parts but the last are words without a meaning, the same for the same part."""
    words: dict[str, str] = {part: part for part in FIXED}
    found = {}
    for name in names:
        *parts, leaf = name.split(separator)
        for part in parts:
            words.setdefault(part, word(chance))
        found[name] = separator.join([*(words[part] for part in parts), leaf])
    return found


def word(chance: random.Random) -> str:
    """A name without a meaning."""
    return "".join(chance.choices(string.ascii_lowercase, k=8))


def _rewrite_safetensors(path: Path, to: Path, change: Callable[..., Tensors], chance: random.Random | None) -> None:
    """By the layout of the format: its own package sorts what it writes."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    entries = json.loads(content[8 : 8 + size])
    about = {name: entries.pop(name) for name in ("__metadata__",) if name in entries}
    places, header, data = list(change(entries, ".").items()), dict(about), b""
    for name, entry in places:
        start, end = entry["data_offsets"]
        header[name] = {**entry, "data_offsets": [len(data), len(data) + end - start]}
        data += content[8 + size + start : 8 + size + end]
    if chance is not None:  # names stand in an order of their own
        header = dict(chance.sample(list(header.items()), len(header)))
    text = json.dumps(header).encode()
    to.write_bytes(struct.pack("<Q", len(text)) + text + data)


def _rewrite_npz(path: Path, to: Path, change: Callable[..., Tensors], chance: random.Random | None) -> None:
    with np.load(path) as arrays:
        np.savez(to, **change(dict(arrays), "." if any("." in name for name in arrays) else "/"))


def _rewrite_torch(path: Path, to: Path, change: Callable[..., Tensors], chance: random.Random | None) -> None:
    content = torch.load(path, weights_only=True)
    if "state_dict" in content:
        content["state_dict"] = change(content["state_dict"], ".")
    else:
        content = change(content, ".")
    torch.save(content, to, _use_new_zipfile_serialization=path.read_bytes()[:2] == b"PK")


_WRITERS = {".safetensors": _rewrite_safetensors, ".npz": _rewrite_npz, ".pt": _rewrite_torch}


def _rewrite_onnx(path: Path, to: Path, chance: random.Random, *, has_names: bool, has_order: bool) -> None:
    import onnx

    model = onnx.load(path)
    graph = model.graph
    if has_order:
        for table, entries in (
            (graph.initializer, chance.sample(list(graph.initializer), len(graph.initializer))),
            (graph.node, sorted_nodes(list(graph.node), chance)),
        ):
            copies = [type(entry).FromString(entry.SerializeToString()) for entry in entries]
            del table[:]
            table.extend(copies)
    if has_names:
        ends = {entry.name for entry in (*graph.input, *graph.output)}
        values = [entry.name for entry in graph.initializer] + [name for node in graph.node for name in node.output]
        new = {name: word(chance) for name in dict.fromkeys(values) if name and name not in ends}
        for entry in graph.initializer:
            entry.name = new.get(entry.name, entry.name)
        for node in graph.node:
            node.name = word(chance)
            node.input[:] = [new.get(name, name) for name in node.input]
            node.output[:] = [new.get(name, name) for name in node.output]
        del graph.value_info[:]
    onnx.save(model, to)


def sorted_nodes(nodes: list[onnx.NodeProto], chance: random.Random) -> list[onnx.NodeProto]:
    """The nodes in a random order in which each stands behind those whose outputs it reads."""
    made = {name for node in nodes for name in node.output}
    found: list[onnx.NodeProto] = []
    known: set[str] = set()
    while nodes:
        node = chance.choice([node for node in nodes if not (set(node.input) & made) - known])
        nodes.remove(node)
        found.append(node)
        known.update(node.output)
    return found
