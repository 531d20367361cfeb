from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from frostline.splitting.calls.containers import (
    calls_itself_otherwise,
    filled,
    has_numbers,
    is_plain,
    is_same,
    outline,
    replace,
    template_of,
    tensor_paths,
    tensors_in,
)
from helpers_splitting import Net, check, x

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


def test_outlines_tell_kinds_numbers_and_texts_apart_and_not_the_content_of_tensors():
    same = [(A, A + 1), ([A, 3], [A * 2, 3]), ({"a": Record(A)}, {"a": Record(A + 1)}), (slice(1, 2), slice(1, 2))]
    assert all(outline(one) == outline(other) for one, other in same)
    others = [
        None, 1, 1.0, True, "1", b"1", 1j, (1,), [1], {"a": 1}, {"b": 1}, OrderedDict(a=1), A, A.double(), A[0], (A,),
        (A, A), [A], Record(1), Record(1, "x"), Slotted(1), slice(1, 2), slice(1, 3), torch.float32, torch.float64,
        (), [],
    ]  # fmt: skip
    outlines = [outline(value) for value in others]
    assert [at for at, one in enumerate(outlines) if outlines.index(one) != at] == []


@pytest.mark.parametrize("value", [3, 2.5, "x", True, (A, 1), {"a": [A, "x"]}, Record(1j), slice(A, 2)])
def test_numbers_and_texts_beside_tensors_are_found(value):
    assert has_numbers(value)
    for without in (A, (A, None), {"a": [A]}, slice(None, A), Pair(A, None), torch.float32):
        assert not has_numbers(without)


def test_tensors_are_the_same_by_shape_dtype_and_values():
    nan = torch.tensor([float("nan"), 1.0])
    for one in (nan, torch.tensor([1, 2]), torch.tensor([complex("nan"), 1j]), torch.zeros(0), torch.tensor([True])):
        assert is_same(one, one.clone())
    for other in (nan.flip(0), torch.tensor([float("nan"), 2.0]), nan.double(), nan[None], torch.zeros(2)):
        assert not is_same(nan, other)
    assert not is_same(torch.tensor([1, 2]), torch.tensor([1, 3]))


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_sparse_tensors_are_the_same_if_their_entries_are():
    for change in (torch.Tensor.to_sparse, torch.Tensor.to_sparse_csr, torch.Tensor.to_sparse_csc):
        one = change(torch.tensor([[0.0, float("nan")], [2.0, 0.0]]))
        assert is_same(one, one.clone())
        assert not is_same(one, change(torch.tensor([[0.0, float("nan")], [3.0, 0.0]])))
        assert not is_same(one, change(torch.tensor([[float("nan"), 0.0], [2.0, 0.0]])))
        assert not is_same(one, one.to_dense())


def test_parts_of_slices_and_named_tuples_are_changed_in_a_copy():
    assert replace(slice(A, None, 2), lambda tensor: B) == slice(B, None, 2)
    assert replace(Pair(A, [A]), lambda tensor: 5) == Pair(5, [5])
    assert replace((1, "x", 2.0), lambda number: 0, (int, float)) == (0, "x", 0)
    mapping = UserDict(a=A)
    assert dict(replace(mapping, lambda tensor: 7)) == {"a": 7}
    assert mapping["a"] is A
    slotted = Slotted(A)
    assert replace(slotted, lambda tensor: 7).value == 7
    assert slotted.value is A


class OneSlot:
    __slots__ = "value"

    def __init__(self, value):
        self.value = value


def test_a_path_leads_to_its_tensor():
    for value in (*VALUES.values(), OneSlot([A]), Record({"x": slice(None, A)})):
        for path, tensor in tensor_paths(value):
            part = value
            for step in path:
                is_named = step.is_attribute or isinstance(part, slice)
                part = getattr(part, step.key) if is_named else part[step.key]
            assert part is tensor
    assert [tensor for _, tensor in tensor_paths(OneSlot(A))] == [A]


def test_plain_values_cannot_carry_tensors_in_secret():
    plain = [A, (A, [3, "x"]), {"a": slice(A, 2)}, None, torch.float32, Pair(A, 1)]
    assert all(map(is_plain, plain))
    assert not any(map(is_plain, [Record(A), UserDict(a=A), OrderedDict(a=A), (1, [Record(2)]), Slotted(1)]))


def test_a_class_that_computes_around_its_forward_is_told():
    class Doubled(nn.Linear):
        def __call__(self, batch):
            return super().__call__(batch) * 2

    assert calls_itself_otherwise(Doubled(2, 2))
    assert not calls_itself_otherwise(nn.Linear(2, 2))
    for place in ("low", "high"):
        model = Net(lambda m, batch: m.high(m.low(batch)))
        setattr(model, place, Doubled(8, 8).requires_grad_(place == "high"))
        check(model, x(4))


def test_a_packed_sequence_has_a_template_too():
    packed = nn.utils.rnn.pack_padded_sequence(torch.ones(2, 3, 1), torch.tensor([3, 2]), batch_first=True)
    template, tensors = template_of(packed)
    again = filled(template, tensors)
    assert type(again) is type(packed)
    assert torch.equal(again.data, packed.data)
    assert torch.equal(again.batch_sizes, packed.batch_sizes)
