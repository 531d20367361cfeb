"""Files that are written anew hold the same weights, in another order, under other names."""

import random
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

from exams.porting.shuffling import KINDS, is_rewritable, new_names, rewrite, shuffled
from exams.porting.stored import stored
from exams.porting.trials import EXACT
from frostline.porting.readers.formats import open_source

NETWORKS = {
    f"{each.framework}/{each.name}": each for each in stored(Path(__file__).parents[1] / "porting/files/networks")
}
SQUARES = NETWORKS["onnx/square_dense"]
STATE = {f"encoder.{index}.proj.weight": torch.full((2, 3), float(index)) for index in range(8)}
WRITE = {
    "bare.safetensors": lambda at: save_file(STATE, at),
    "bare.pt": lambda at: torch.save({"epoch": 3, "state_dict": STATE}, at),
    "old.pt": lambda at: torch.save(STATE, at, _use_new_zipfile_serialization=False),
    "flax.npz": lambda at: np.savez(at, **{f"params/{name.replace('.', '/')}": v for name, v in STATE.items()}),
}


def content(path):
    """Name and first value of each tensor in the order of the file, as their own packages see them."""
    if path.suffix == ".npz":
        with np.load(path) as file:
            return [(name, float(value[0, 0])) for name, value in file.items()]
    if path.suffix == ".safetensors":
        with open_source(path) as (source, _):
            return [(tensor.name, float(tensor.load()[0, 0])) for tensor in source.tensors]
    state = torch.load(path, weights_only=True)
    return [(name, float(value[0, 0])) for name, value in state.get("state_dict", state).items()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", WRITE)
def test_a_shuffled_file_holds_the_same_tensors(tmp_path, file, kind):
    path = tmp_path / file
    WRITE[file](path)
    (tmp_path / "new").mkdir()
    rewrite(path, tmp_path / "new" / file, random.Random(3), kind)
    old, new = content(path), content(tmp_path / "new" / file)
    assert sorted(value for _, value in new) == sorted(value for _, value in old)
    if kind == "order":
        assert dict(new) == dict(old)
    else:
        assert not {name for name, _ in new} & {name for name, _ in old}
        assert {name.replace("/", ".").split(".")[-1] for name, _ in new} == {"weight"}
    has_moved = [value for _, value in new] != [value for _, value in old]
    assert has_moved == ("order" in kind)


def test_a_header_of_safetensors_has_another_order_than_its_data(tmp_path):
    save_file(STATE, tmp_path / "old.safetensors")
    rewrite(tmp_path / "old.safetensors", tmp_path / "new.safetensors", random.Random(0), "order")
    start = (tmp_path / "new.safetensors").read_bytes()
    names = [name for name, _ in content(tmp_path / "new.safetensors")]
    assert sorted(names, key=lambda name: start.index(name.encode())) != sorted(names)


@pytest.mark.parametrize("kind", KINDS)
def test_a_shuffled_graph_computes_the_same(tmp_path, kind):
    twins = NETWORKS["onnx/twins"]
    rewrite(twins.path / "model.onnx", tmp_path / "new.onnx", random.Random(1), kind)
    session = onnxruntime.InferenceSession(tmp_path / "new.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: twins.golden("input")[0].numpy()})
    np.testing.assert_allclose(found, twins.golden("output")[0].numpy(), rtol=1e-5, atol=1e-6)
    old, new = onnx.load(twins.path / "model.onnx").graph, onnx.load(tmp_path / "new.onnx").graph
    assert sorted(node.op_type for node in new.node) == sorted(node.op_type for node in old.node)
    assert ([node.op_type for node in new.node] != [node.op_type for node in old.node]) == ("order" in kind)
    assert bool({each.name for each in new.initializer} & {each.name for each in old.initializer}) == (kind == "order")
    assert [each.name for each in new.input] == [each.name for each in old.input]


def test_parts_of_names_are_replaced_alike_and_words_of_the_framework_stay():
    new = new_names(["params/a/query/kernel", "params/a/out/kernel", "params/b/bias"], "/", random.Random(0))
    parts = [name.split("/") for name in new.values()]
    assert [name[-1] for name in parts] == ["kernel", "kernel", "bias"]
    assert parts[0][:3] == ["params", parts[1][1], "query"]
    assert parts[2][1] not in ("b", parts[0][1])


def test_a_shuffled_file_is_ported_and_judged():
    verdicts = [shuffled(SQUARES, "model.onnx", seed) for seed in range(3)]
    assert [(verdict.outcome, verdict.mode) for verdict in verdicts] == [(EXACT, "shuffled")] * 3


def test_code_is_left_alone():
    assert [is_rewritable(SQUARES, file) for file in ("model.onnx", "script.pt", "model.keras")] == [True, False, False]
