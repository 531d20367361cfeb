from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass

import torch

from frostline.splitting.structure import filled, is_plain, replace, template_of, tensor_paths, tensors_in

Pair = namedtuple("Pair", "a b")


@dataclass(frozen=True)
class Record:
    value: object
    note: str = "note"


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


A, B = torch.ones(1), torch.zeros(2)
VALUES = {
    "tensor": A, "tuple": (A, 3, B), "list": [A, [B]], "named tuple": Pair(A, "x"), "dict": {"k": A, "l": (B,)},
    "ordered": OrderedDict(a=A), "dataclass": Record(A), "nested": Record({"x": [A, Pair(B, None)]}),
    "slots": Slotted((A, B)), "slice": slice(A, None), "nothing": ("text", 3, None, torch.float32),
}  # fmt: skip


def test_a_template_and_its_filling_are_the_identity():
    for name, value in VALUES.items():
        template, tensors = template_of(value)
        assert tensors_in(template) == [], name
        assert all(a is b for a, b in zip(tensors, tensors_in(value), strict=True)), name
        again = filled(template, tensors)
        assert type(again) is type(value), name
        assert [path for path, _ in tensor_paths(again)] == [path for path, _ in tensor_paths(value)], name
        assert all(a is b for a, b in zip(tensors_in(again), tensors, strict=True)), name


def test_what_holds_no_tensor_is_shared():
    value = {"a": Record("x"), "b": [1, 2]}
    assert replace(value, lambda tensor: tensor) is value
    changed = replace({**value, "c": A}, lambda tensor: B)
    assert changed["a"] is value["a"]
    assert changed["c"] is B


def test_a_changed_copy_leaves_the_original_alone():
    record = Record([A])
    assert replace(record, lambda tensor: B).value[0] is B
    assert record.value[0] is A


def test_circles_end():
    value: list = [A]
    value.append(value)
    assert [tensor is A for tensor in tensors_in(value)] == [True]


def test_plain_values_cannot_carry_tensors_in_secret():
    plain = [A, (A, [3, "x"]), {"a": slice(A, 2)}, None, torch.float32, Pair(A, 1)]
    assert all(map(is_plain, plain))
    assert not any(map(is_plain, [Record(A), UserDict(a=A), OrderedDict(a=A), (1, [Record(2)]), Slotted(1)]))
