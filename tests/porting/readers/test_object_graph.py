from pathlib import Path

import pytest

from frostline.core.errors import PortError
from frostline.porting.readers.object_graph import KEY, objects
from frostline.porting.readers.tensor_bundle import bundle
from frostline.porting.readers.weight_file import WeightFile
from helpers_porting_wire import block, number

FILES = Path(__file__).parents[1] / "files" / "tensorflow"
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def of(stem):
    with WeightFile(FILES / f"{stem}.index") as file:
        return objects(file, bundle(file).text(KEY))


def test_kernels_that_are_stored_under_the_optimizer_are_the_networks():
    found = of("keras3-1")
    by_name = {variable.full_name: variable for variable in found.variables}
    stem = by_name["sequential/stem/kernel"]
    assert stem.key == f"optimizer/_trainable_variables/0{SUFFIX}"
    assert stem.path == "model/_functional/_operations/1/_kernel"
    assert f"optimizer/_variables/2{SUFFIX}" in found.others
    assert found.is_keras


def test_slots_of_older_optimizers_are_not():
    found = of("tfkeras")
    assert all("OPTIMIZER_SLOT" not in variable.key for variable in found.variables)
    assert any("OPTIMIZER_SLOT" in key for key in found.others)
    assert {variable.full_name for variable in found.variables} >= {"stem/kernel", "squeeze/bias"}


def test_modules_without_keras():
    found = of("modules")
    assert not found.is_keras
    assert len(found.variables) == 22
    assert found.others == frozenset()


def node(*children, key="", slots=False):
    links = b"".join(block(1, number(1, child) + block(2, name)) for name, child in children)
    value = block(2, block(2, "w") + block(3, key + SUFFIX)) if key else b""
    return block(1, links + value + (block(3, number(1, 0)) if slots else b""))


def test_cycles_end(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    with WeightFile(tmp_path / "a") as file:
        found = objects(file, node(("self", 0), ("b", 1)) + node(("up", 0), ("c", 2)) + node(key="c"))
        assert [variable.path for variable in found.variables] == ["b/c"]
        assert objects(file, b"").variables == ()
        deep = b"".join(node(("a", k + 1)) for k in range(200)) + node(key="deep")
        assert objects(file, deep).variables == ()


@pytest.mark.parametrize("child", [-1, 2, 1 << 40])
def test_children_that_are_not_there_are_refused(tmp_path, child):
    (tmp_path / "a").write_bytes(b"x")
    with WeightFile(tmp_path / "a") as file, pytest.raises(PortError, match="damaged"):
        objects(file, node(("a", child)) + node())
