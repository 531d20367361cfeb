"""Rows 18 to 26: pickles, and the files of PyTorch."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
from pathlib import Path

import torch

from porting.torch_files import hand_made, pickled, rewritten

from .case import FILES, built, raw
from .containers import DAMAGED, System

MORE = "contains more than data"
for _protocol in (2, 3, 4, 5):
    raw(18, f"a call of os.system, protocol {_protocol}", pickle.dumps({"a": System()}, _protocol), "(posix|nt).system")
for _name in (b"builtins\neval", b"torch\nload", b"numpy\nload", b"torch._utils\n_import_dotted_name"):
    raw(18, f"the name {_name.decode().replace(chr(10), '.')}", b"\x80\x02}U\x01ac" + _name + b"\n)Rs.", MORE)


@built(18, "a call of os.system in a file of PyTorch", "(posix|nt).system")
def _in_archive(folder: Path) -> Path:
    return hand_made(folder / "a.pt", pickle.dumps({"a": System()}, 2))


for _what, _code in (("OBJ", b"(cm\nf\no."), ("INST", b"(im\nf\n."), ("NEWOBJ_EX", b"cm\nf\n)}\x92."),
                     ("EXT1", b"\x82\x01."), ("EXT2", b"\x83\x01\0."), ("EXT4", b"\x84\x01\0\0\0."),
                     ("PERSID", b"Pa\n."), ("NEXT_BUFFER", b"\x97.")):  # fmt: skip
    raw(19, f"the opcode {_what}", b"\x80\x02" + _code, MORE)
raw(19, "REDUCE of a record", b"\x80\x02ccollections\nOrderedDict\n)R)R.", MORE)
raw(19, "BUILD on a list", b"\x80\x02]}b.", MORE)
raw(20, "SETITEM on a list", b"\x80\x02]K\x01K\x02s.", MORE)
raw(20, "APPEND on a dict", b"\x80\x02}K\x01a.", MORE)
raw(20, "SETITEMS on a tensor", pickled()[:-2].replace(b"\x89}tR", b"\x89}tR(K\x01K\x02u", 1) + b".", "damaged|" + MORE)
raw(21, "a payload before the error", pickle.dumps([System()], 2)[:-1] + b"\xff", "(posix|nt).system")
raw(21, "a payload behind the end", pickle.dumps({}, 2) + pickle.dumps(System(), 2), "behind the end|damaged")
raw(22, "2,000 marks", b"\x80\x02" + b"(" * 2_000 + b".", DAMAGED)
raw(22, "an integer of 2 GB", b"\x80\x02\x8b\xff\xff\xff\x7f.", DAMAGED)
raw(22, "a text of 4 GB", b"\x80\x02X\xff\xff\xff\xffabc.", DAMAGED)
raw(22, "a tuple in a tuple, 10^5 deep, as a key", b"\x80\x02})" + b"\x85" * 100_000 + b"K\x01s.", MORE)
raw(22, "protocol 0", pickle.dumps({"a": 1}, 0), "format .* unknown")
raw(22, "8 MB of memos", b"\x80\x02}" + b"".join(b"r" + struct.pack("<I", at) for at in range(1_600_000)) + b".",
    "damaged|no named tensors")  # fmt: skip
raw(22, "32 MB of empty lists", b"\x80\x02" + b"]0" * (1 << 24) + b"}.", "damaged|opcodes")
_FRAME = b"\x80\x04\x95" + bytes(8)
raw(22, "32 MB of numbers in a frame", _FRAME + b"K\1" * (1 << 24) + b".", "damaged|opcodes")
_NAMES = (b"X\4\0\0\0" + b"%04d" % at + b"K\1\x86" for at in range(10_000))
_PAIRS = b"](" + b"".join(_NAMES) + b"eq\0"
raw(22, "a list of pairs that becomes a dict 10^5 times", b"\x80\x02ccollections\nOrderedDict\nq\1" + _PAIRS
    + b"0h\1h\0\x85R0" * 100_000 + b"}.", DAMAGED)  # fmt: skip
raw(22, "a text that becomes bytes 10^5 times", b"\x80\x02c_codecs\nencode\nq\0X\xff\x0f\0\0" + b"a" * 4095
    + b"q\1X\6\0\0\0latin1q\2]" + b"h\0h\1h\2\x86Ra" * 100_000 + b".", DAMAGED)  # fmt: skip
raw(22, "a tuple of 50 parts that is looked up 10^5 times", b"\x80\x04(" + b"K\1" * 50 + b"t\x94\x8f"
    + b"(h\0\x90" * 100_000 + b".", DAMAGED)  # fmt: skip
_DOUBLED = b")" + b"".join(b"q" + bytes([at]) + b"h" + bytes([at]) + b"\x86" for at in range(200))


@built(22, "a memory described by 2^200 parts", DAMAGED)
def _doubled(folder: Path) -> Path:
    return hand_made(folder / "a.pt", pickled(_DOUBLED + b"Q"))


def _storage(key: bytes = b"0", count: bytes = b"K\4") -> bytes:
    persistent = b"(X\7\0\0\0storagectorch\nFloatStorage\nX" + struct.pack("<I", len(key)) + key
    return pickled(persistent + b"X\3\0\0\0cpu" + count + b"tQ")


for _what, _pickle in {
    "a memory named ../0": _storage(b"../0"), "a memory of 5 numbers in 16 bytes": _storage(count=b"K\5"),
    "a memory of 2^31 - 1 numbers": _storage(count=b"J\xff\xff\xff\x7f"),
    "an offset outside of the memory": pickled(rest=b"K\1K\4\x85K\1\x85"),
    "a stride outside of the memory": pickled(rest=b"K\0K\4\x85K\2\x85"),
    "a negative stride": pickled(rest=b"K\3K\4\x85J\xff\xff\xff\xff\x85"),
    "a negative offset": pickled(rest=b"J\xff\xff\xff\xffK\4\x85K\1\x85"),
    "2^31 - 1 elements of one number": pickled(rest=b"K\0J\xff\xff\xff\x7f\x85K\0\x85"),
}.items():  # fmt: skip
    built(23, _what, DAMAGED)(lambda folder, content=_pickle: hand_made(folder / "a.pt", content))


@built(24, "an archive of PyTorch before 0.1.10", "before 0.1.10 are not supported")
def _tar(folder: Path) -> Path:
    with tarfile.open(folder / "a.pt", "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    return folder / "a.pt"


@built(25, "TorchScript whose code would run", reads="contains code .TorchScript., which was neither read nor run")
def _script(folder: Path) -> Path:
    (folder / "a.pt").write_bytes((FILES / "torch" / "script.pt").read_bytes())
    return rewritten(folder / "a.pt", lambda members: {
        name: b"import os; os.system('touch x')" if name.endswith(".py") else content
        for name, content in members.items()
    })  # fmt: skip


def _of_subclass() -> bytes:
    """`_rebuild_from_type_v2` of a class of the attacker's."""
    inner = b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_tensor_v2\ncevil\nTensor\n)NtR"
    return b"\x80\2}X\1\0\0\0w" + inner + b"s."


@built(26, "a tensor of a class from elsewhere", "evil.Tensor")
def _subclass(folder: Path) -> Path:
    return hand_made(folder / "a.pt", _of_subclass())


@built(26, "sparse and quantised tensors", reads="sparse or quantised tensors were converted to plain ones")
def _sparse(folder: Path) -> Path:
    (folder / "a.pt").write_bytes((FILES / "torch" / "run.pt").read_bytes())
    return folder / "a.pt"


@built(26, "sparse indices outside of the tensor", DAMAGED)
def _outside(folder: Path) -> Path:
    one = torch.sparse_coo_tensor(torch.tensor([[2**40]]), torch.ones(1), (3,), check_invariants=False)
    torch.save({"a": one}, folder / "a.pt")
    return folder / "a.pt"


@built(26, "an order of bytes that does not exist", DAMAGED)
def _order(folder: Path) -> Path:
    return hand_made(folder / "a.pt", pickled(), byteorder=b"middle")
