import struct
from pathlib import Path

import numpy as np
import pytest

from frostline.core.errors import PortError
from frostline.porting.readers import gguf
from frostline.porting.readers.weight_file import WeightFile

FILES = Path(__file__).parents[1] / "files" / "gguf"


def read(path):
    with WeightFile(path) as file:
        assert gguf.claims(file)
        source = gguf.read(file)
        return {one.name: one.load() for one in source.tensors}, source


def test_every_type():
    found, source = read(FILES / "types.gguf")
    expected = np.load(FILES / "types.npz")
    assert list(found) == list(expected)
    for one in source.tensors:
        tensor = found[one.name]
        assert one.shape == tuple(tensor.shape) == expected[one.name].shape
        assert np.array_equal(tensor.float().numpy(), expected[one.name].astype(np.float32))
    assert found["blk.0.int64.weight"].numpy().dtype == np.int64
    assert (source.tensors[0].unit, source.tensors[0].leaf) == ("blk/0/float32", "weight")
    assert [one.dtype for one in source.tensors][-2:] == ["bfloat16", "float32"]
    assert source.tensors[-1].leaf == "weight in rotary pairs of 2 heads"
    assert (source.format, source.framework) == ("GGUF", "gguf")
    assert "Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 were dequantised" in source.notes[0]
    assert "the architecture is llama" in source.notes[1].lower()


def text(value):
    return struct.pack("<Q", len(value)) + value


def row(name=b"a", dims=(4,), kind=0, offset=0):
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def whole(rows, data, *, keys=(), version=3, counts=None, alignment=32):
    head = (
        struct.pack("<4sIQQ", b"GGUF", version, *(counts or (len(rows), len(keys)))) + b"".join(keys) + b"".join(rows)
    )
    return head + bytes(-len(head) % alignment) + data


def test_a_file_made_by_hand(tmp_path):
    keys = [
        text(b"general.alignment") + struct.pack("<II", 4, 64), text(b"x") + struct.pack("<I", 8) + text(b"y" * 70000),
        text(b"z") + struct.pack("<IIQ", 9, 7, 3) + b"\0\1\0", text(b"split.count") + struct.pack("<IH", 2, 1),
    ]  # fmt: skip
    raw = whole([row(), row(b"b", offset=64)], struct.pack("<4f", 1, 2, 3, 4) + bytes(64), keys=keys, alignment=64)
    (tmp_path / "a.gguf").write_bytes(raw)
    assert read(tmp_path / "a.gguf")[0]["a"].tolist() == [1, 2, 3, 4]
    (tmp_path / "a.gguf").write_bytes(whole([], b""))
    assert read(tmp_path / "a.gguf")[0] == {}


def refused(tmp_path, raw, match, received=""):
    (tmp_path / "a.gguf").write_bytes(raw)
    with pytest.raises(PortError, match=match) as caught:
        read(tmp_path / "a.gguf")
    assert received in caught.value.received


def key(name, kind, raw):
    return text(name) + struct.pack("<I", kind) + raw


@pytest.mark.parametrize(
    "raw",
    [b"GGUF", whole([row()], bytes(15)), whole([row()], bytes(100)), whole([row()], bytes(16), counts=(2**60, 0)),
     whole([row()], bytes(16), counts=(1, 2**60)), whole([row(), row()], bytes(64)),
     whole([row(), row(b"b", offset=0)], bytes(64)), whole([row(), row(b"b", offset=64)], bytes(80)),
     whole([row(), row(b"b", offset=17)], bytes(64)), whole([row(offset=32)], bytes(64)),
     whole([row(offset=2**63)], bytes(64)), whole([row(dims=(2**62, 2**62))], bytes(64)),
     whole([row(dims=(1,) * 5)], bytes(64)), whole([row(dims=(33,), kind=8)], bytes(64)),
     whole([row(dims=(), kind=8)], bytes(64)), whole([row(dims=(2**40, 2**40, 2**40), kind=8)], bytes(64)),
     whole([row(name=b"a\0")], bytes(16)), whole([row(name=b"a" * 5000)], bytes(16)),
     whole([struct.pack("<Q", 2**63)], bytes(16)),
     whole([], b"", keys=[key(b"a", 4, bytes(4)), key(b"a", 4, bytes(4))]),
     whole([], b"", keys=[key(b"a", 99, bytes(4))]), whole([], b"", keys=[key(b"a", 8, struct.pack("<Q", 2**63))]),
     whole([], b"", keys=[key(b"a", 9, struct.pack("<IQ", 0, 2**63))]),
     whole([], b"", keys=[key(b"a", 9, struct.pack("<IQ", 8, 2**63))]),
     whole([], b"", keys=[key(b"a", 9, struct.pack("<IQ", 9, 1) + struct.pack("<IQ", 9, 1))])]
    + [whole([row()], bytes(16), keys=[key(b"general.alignment", 4, struct.pack("<I", one))]) for one in (0, 3, 33, 4)]
    + [whole([row()], bytes(16), keys=[key(b"general.alignment", 6, struct.pack("<f", 32))])],
)  # fmt: skip
def test_files_that_contradict_themselves(tmp_path, raw):
    refused(tmp_path, raw, "damaged")


def test_what_is_not_read_is_named(tmp_path):
    refused(tmp_path, whole([], b"", version=1), "This version of GGUF is not supported", "version 1")
    refused(tmp_path, whole([], b"", version=3 << 24), "This version of GGUF is not supported")
    refused(tmp_path, whole([row(dims=(256,), kind=16)], bytes(66)), "tensors of an unsupported type", "IQ2_XXS")
    refused(tmp_path, whole([row(kind=4)], bytes(66)), "tensors of an unsupported type", "the unknown type 4")
    split = key(b"split.count", 2, struct.pack("<H", 3))
    refused(tmp_path, whole([], b"", keys=[split]), "one of several parts", "split.count is 3")


def test_other_files_are_not_claimed(tmp_path):
    (tmp_path / "a").write_bytes(b"GGML")
    with WeightFile(tmp_path / "a") as file:
        assert not gguf.claims(file)


def of_architecture(tmp_path, name, heads=()):
    keys = [key(b"general.architecture", 8, text(name))] if name else []
    keys += [key(name + b".attention." + own, 4, struct.pack("<I", count)) for own, count in heads]
    rows = [row(b"blk.0.attn_q.weight"), row(b"blk.0.attn_norm.weight", offset=32)]
    (tmp_path / "a.gguf").write_bytes(whole(rows, bytes(64), keys=keys))
    source = read(tmp_path / "a.gguf")[1]
    return source.tensors[0].leaf, " ".join(source.notes)


@pytest.mark.parametrize(("name", "leaf", "note"), [
    (b"llama", "weight in an unknown order", "The architecture is llama: the order of the rows"),
    (b"qwen3", "weight", ""),
    (b"gemma2", "weight", "1 added to the weights of Gemma in transformers"),
    (b"something_new", "weight in an unknown order", "The architecture is something_new: the order"),
    (b"", "weight in an unknown order", "The architecture is not stated: the order"),
])  # fmt: skip
def test_what_the_converter_of_an_architecture_changed(tmp_path, name, leaf, note):
    found, notes = of_architecture(tmp_path, name)
    assert found == leaf
    assert note in notes
    assert bool(note) == bool(notes)


@pytest.mark.parametrize("heads", [[(b"head_count", 2)], [(b"head_count", 4), (b"head_count_kv", 2)]])
def test_queries_and_keys_of_llama_lie_in_rotary_pairs(tmp_path, heads):
    leaf, notes = of_architecture(tmp_path, b"llama", heads)
    assert leaf == f"weight in rotary pairs of {heads[0][1]} heads"
    assert "neighbouring rows of each head are rotated together" in notes
