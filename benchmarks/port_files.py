"""Files of weights of one network in each format, written by libraries that need no framework."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from helpers_porting_wire import block, entry, number, table
from torch import nn

WIDTH = 1024
NAMES = tuple(f"dense_{index}" for index in range(25))  # of 4 MB each


class Network(nn.Module):
    """Linear layers in a row, (B, 1024) to (B, 1024)."""

    def __init__(self) -> None:
        super().__init__()
        for name in NAMES:
            self.add_module(name, nn.Linear(WIDTH, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1024) to (B, 1024)."""
        for name in NAMES:
            x = getattr(self, name)(x).relu()
        return x


def arrays() -> dict[str, np.ndarray]:
    """Kernels (I, O) and biases (O,), by layer and leaf."""
    rng = np.random.default_rng(0)
    found: dict[str, np.ndarray] = {}
    for name in NAMES:
        found[f"{name}/kernel"] = (rng.standard_normal((WIDTH, WIDTH), dtype=np.float32) / 32).astype(np.float32)
        found[f"{name}/bias"] = rng.standard_normal(WIDTH, dtype=np.float32) / 32
    return found


def _state(values: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    leaves = {"kernel": "weight", "bias": "bias"}
    return {
        f"{name.split('/')[0]}.{leaves[name.split('/')[1]]}": torch.from_numpy(np.ascontiguousarray(value.T))
        for name, value in values.items()
    }


def _torch(folder: Path, values: dict[str, np.ndarray]) -> Path:
    torch.save(_state(values), folder / "a.pt")
    return folder / "a.pt"


def _torch_legacy(folder: Path, values: dict[str, np.ndarray]) -> Path:
    torch.save(_state(values), folder / "a.pt", _use_new_zipfile_serialization=False)
    return folder / "a.pt"


def _safetensors(folder: Path, values: dict[str, np.ndarray]) -> Path:
    from safetensors.torch import save_file

    save_file(_state(values), folder / "a.safetensors")
    return folder / "a.safetensors"


def _npz(folder: Path, values: dict[str, np.ndarray]) -> Path:
    np.savez(folder / "a.npz", **{f"params/{name}": value for name, value in values.items()})
    return folder / "a.npz"


def _h5(target: object, values: dict[str, np.ndarray]) -> None:
    import h5py

    with h5py.File(target, "w") as file:
        for index, name in enumerate(NAMES):
            group = file.create_group(f"layers/dense{f'_{index}' if index else ''}/vars")
            group.attrs["name"] = name
            group["0"], group["1"] = values[f"{name}/kernel"], values[f"{name}/bias"]


def _weights_h5(folder: Path, values: dict[str, np.ndarray]) -> Path:
    _h5(folder / "a.weights.h5", values)
    return folder / "a.weights.h5"


def _keras(folder: Path, values: dict[str, np.ndarray]) -> Path:
    first = {
        "module": "keras.layers",
        "class_name": "InputLayer",
        "config": {"name": "x", "batch_shape": [None, WIDTH]},
    }
    layers = [
        {"module": "keras.layers", "class_name": "Dense",
         "config": {"name": name, "units": WIDTH, "activation": "relu", "use_bias": True}}
        for name in NAMES
    ]  # fmt: skip
    config = {"module": "keras", "class_name": "Sequential", "config": {"name": "net", "layers": [first, *layers]}}
    buffer = io.BytesIO()
    _h5(buffer, values)
    with zipfile.ZipFile(folder / "a.keras", "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", buffer.getvalue())
    return folder / "a.keras"


def _legacy_h5(folder: Path, values: dict[str, np.ndarray]) -> Path:
    import h5py

    with h5py.File(folder / "a.h5", "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in NAMES]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.15.0"
        for name in NAMES:
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{leaf}:0".encode() for leaf in ("kernel", "bias")]
            for leaf in ("kernel", "bias"):
                group[f"{name}/{leaf}:0"] = values[f"{name}/{leaf}"]
    return folder / "a.h5"


def _onnx(folder: Path, values: dict[str, np.ndarray]) -> Path:
    import onnx
    from onnx import helper, numpy_helper

    nodes, last = [], "x"
    for name in NAMES:
        nodes.append(helper.make_node("Gemm", [last, f"{name}.weight", f"{name}.bias"], [name], name=name, transB=1))
        nodes.append(helper.make_node("Relu", [name], [f"{name}.out"]))
        last = f"{name}.out"
    kept = [numpy_helper.from_array(tensor.numpy(), name) for name, tensor in _state(values).items()]
    ends = [helper.make_tensor_value_info(name, 1, ["B", WIDTH]) for name in ("x", last)]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "a.onnx")
    return folder / "a.onnx"


def _flax(folder: Path, values: dict[str, np.ndarray]) -> Path:
    import msgpack

    def packed(value: np.ndarray) -> msgpack.ExtType:
        return msgpack.ExtType(1, msgpack.packb((value.shape, value.dtype.name, value.tobytes())))

    tree = {name: {leaf: packed(values[f"{name}/{leaf}"]) for leaf in ("kernel", "bias")} for name in NAMES}
    (folder / "a.msgpack").write_bytes(msgpack.packb({"params": tree}))
    return folder / "a.msgpack"


def _paddle(protocol: int) -> Callable[[Path, dict[str, np.ndarray]], Path]:
    def write(folder: Path, values: dict[str, np.ndarray]) -> Path:
        leaves = {"kernel": "weight", "bias": "bias"}
        named = {f"{name.split('/')[0]}.{leaves[name.split('/')[1]]}": value for name, value in values.items()}
        table = {"StructuredToParameterName@@": {name: name for name in named}}
        (folder / "a.pdparams").write_bytes(pickle.dumps({**named, **table}, protocol))
        return folder / "a.pdparams"

    return write


def _tensorflow(folder: Path, values: dict[str, np.ndarray]) -> Path:
    rows, at = [], 0
    with (folder / "a.ckpt.data-00000-of-00001").open("wb") as data:
        for name, value in sorted(values.items()):
            raw = value.tobytes()
            rows.append((name.encode(), entry(raw, value.shape, offset=at)))
            at += data.write(raw)
    (folder / "a.ckpt.index").write_bytes(table([(b"", number(1, 1) + block(3, number(1, 1))), *rows]))
    return folder / "a.ckpt.index"


def _orbax(folder: Path, values: dict[str, np.ndarray]) -> Path:
    import tensorstore

    base = {"driver": "ocdbt", "base": f"file://{folder}/"}
    tree = {}
    for name, value in values.items():
        layer, leaf = name.split("/")
        key = [{"key": part, "key_type": 2} for part in ("params", layer, leaf)]
        tree[str(("params", layer, leaf))] = {"key_metadata": key, "value_metadata": {"value_type": "jax.Array"}}
        stated = {"shape": value.shape, "chunks": value.shape, "dtype": "<f4", "compressor": {"id": "zstd", "level": 1}}
        spec = {"driver": "zarr", "kvstore": {**base, "path": f"params.{layer}.{leaf}/"}, "metadata": stated}
        tensorstore.open(spec, create=True).result().write(value).result()
    whole = {"tree_metadata": tree, "use_ocdbt": True, "use_zarr3": False, "store_array_data_equal_to_fill_value": True}
    (folder / "_METADATA").write_text(json.dumps(whole))
    return folder


WRITERS: dict[str, Callable[[Path, dict[str, np.ndarray]], Path]] = {
    "safetensors": _safetensors, "PyTorch zip": _torch, "PyTorch before 1.6": _torch_legacy, "npz": _npz,
    "Keras 3 .weights.h5": _weights_h5, "Keras 3 .keras": _keras, "legacy Keras .h5": _legacy_h5, "ONNX": _onnx,
    "Flax msgpack": _flax, "Orbax": _orbax, "TensorFlow checkpoint": _tensorflow,
    "Paddle .pdparams, protocol 4": _paddle(4), "Paddle .pdparams, protocol 2": _paddle(2),
}  # fmt: skip
