"""A part of the exam on the test models of the `onnx` package, and operators beside its own reference."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from exams.porting.onnx_tests import EXACT, REFUSED, WRONG, Case, Result, attempt, cases, report

TYPES = {"f": TensorProto.FLOAT, "i": TensorProto.INT64, "b": TensorProto.BOOL}


def case(kind, *inputs, constants=(), outputs=1, opset=17, **attributes):
    """A model of one node, with what the reference of ONNX makes of it; inputs but the first may be constants."""
    names = [f"i{at}" for at in range(len(inputs))]
    ends = [f"o{at}" for at in range(outputs)]
    arrays = [np.array(one) for one in inputs]
    arrays = [one.astype("f4") if one.dtype.kind == "f" else one for one in arrays]
    given = [helper.make_tensor_value_info(name, TYPES[one.dtype.kind], one.shape)
             for at, (name, one) in enumerate(zip(names, arrays, strict=True)) if at not in constants]  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node(kind, names, ends, **attributes)], "g", given,
        [helper.make_empty_tensor_value_info(one) for one in ends],
        [numpy_helper.from_array(arrays[at], names[at]) for at in constants],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    feeds = {name: one for at, (name, one) in enumerate(zip(names, arrays, strict=True)) if at not in constants}
    with np.errstate(all="ignore"):
        wanted = ReferenceEvaluator(model).run(None, feeds)
    return Case(kind, "", model.SerializeToString(), ((list(feeds.values()), wanted),))


IMAGE = np.arange(2 * 4 * 4, dtype="f4").reshape(1, 2, 4, 4)
ENDLESS = [1.0, np.inf, -np.inf, np.nan]


@pytest.mark.parametrize("one", [
    case("IsInf", ENDLESS), case("IsInf", ENDLESS, detect_negative=0), case("IsInf", ENDLESS, detect_positive=0),
    case("EyeLike", np.zeros((3, 4)), k=1), case("EyeLike", np.zeros((4, 3), dtype=int), k=-2),
    case("EyeLike", np.zeros((3, 3)), dtype=TensorProto.INT64),
    case("TopK", [[3, 1, 3, 3], [0, 0, 2, 0]], [2], constants=(1,), outputs=2),
    case("TopK", [[3, 1, 1, 3], [0, 0, 2, 0]], [3], constants=(1,), outputs=2, largest=0),
    case("LpNormalization", [[0.0, 3.0], [0.0, 4.0]], axis=0),
    case("Expand", np.ones((1, 3, 1)), [3, 1]), case("Expand", np.ones((3, 1)), [2, 1, 6]),
    case("GatherElements", [[1, 2], [3, 4]], [[-1, 0]], axis=0),
    case("ScatterElements", [[1.0, 2.0]], [[-1]], [[9.0]], axis=1),
    case("Reshape", np.arange(24.0).reshape(2, 3, 4), [4, 0, -1]),
    case("Split", np.zeros(0), [0, 0, 0], constants=(1,), outputs=3),
    case("And", [[True, False]], [[True, True]], constants=(1,)),
    case("Xor", [[True, False]], [[True, True]], constants=(1,)),
    case("CastLike", [1.5, -2.5], [1], opset=17),
    case("Resize", IMAGE, [], [1.0, 1.0, 2.0, 2.0], constants=(2,), mode="linear",
         coordinate_transformation_mode="align_corners"),
], ids=lambda one: one.name)  # fmt: skip
def test_operators_beside_the_reference_of_onnx(one):
    assert attempt(one) == Result(one.name, "", EXACT)


@pytest.mark.parametrize(("one", "why"), [
    (case("IsInf", ENDLESS, detect_negative=0, detect_positive=0), "neither sign is looked for"),
    (case("Resize", IMAGE, [], [1.0, 1.0, 0.6, 0.6], constants=(2,), mode="linear",
          coordinate_transformation_mode="align_corners"), "corners aligned by scales that are no whole numbers"),
    (case("Resize", IMAGE, [], [], [1, 2, 3, 1], constants=(3,), mode="linear",
          coordinate_transformation_mode="pytorch_half_pixel"), "an axis of size 1 by 'pytorch_half_pixel'"),
])  # fmt: skip
def test_what_pytorch_computes_otherwise_is_refused(one, why):
    found = attempt(one)
    assert found.outcome == REFUSED
    assert why in found.detail


def test_a_size_is_compared_as_a_size_and_its_remainder_is_not():
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Mod", ["s", "two"], ["r"]),
        helper.make_node("Equal", ["r", "zero"], ["e"]), helper.make_node("Where", ["e", "two", "one"], ["c"]),
        helper.make_node("ConstantOfShape", ["c"], ["z"]), helper.make_node("Add", ["x", "z"], ["y"]),
    ]  # fmt: skip
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    constants = [numpy_helper.from_array(np.array([value]), name) for name, value in
                 (("zero", 0), ("one", 1), ("two", 2))]  # fmt: skip
    model = helper.make_model(
        helper.make_graph(nodes, "g", [given], [helper.make_empty_tensor_value_info("y")], constants),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    sets = tuple(
        ([x], ReferenceEvaluator(model).run(None, {"x": x})) for x in (np.ones(2, dtype="f4"), np.ones(1, dtype="f4"))
    )
    assert attempt(Case("sizes", "", model.SerializeToString(), sets)).outcome == EXACT


def test_slopes_of_old_versions_lie_along_the_channels():
    found = [attempt(one) for one in cases(["pytorch-converted"]) if "PReLU" in one.name]
    assert len(found) == 6
    assert {one.outcome for one in found} == {EXACT}


def test_models_with_stored_outputs_are_exact():
    found = [attempt(one) for _, one in zip(range(10), cases(["pytorch-operator"]), strict=False)]
    assert len(found) == 10
    assert {one.outcome for one in found} == {EXACT}


def test_a_module_that_gives_something_else_is_wrong():
    right = case("Relu", [1.0, -1.0])
    inputs, outputs = right.sets[0]
    for outputs_ in ([outputs[0] + 1], [outputs[0][:1]], [outputs[0] * np.nan], [*outputs, *outputs]):
        assert attempt(Case("Relu", "", right.model, ((inputs, outputs_),))).outcome == WRONG


def test_the_report_counts_by_folder():
    results = [Result("a", "simple", EXACT), Result("b", "simple", REFUSED, "x: the node 'A_0' (Loop)")]
    assert "| `simple` | 1 | 1 | 0 | 0 |" in report(results)
