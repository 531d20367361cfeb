import pytest
import torch
from torch import nn

from frostline.core.errors import PortError
from frostline.porting.readers import torch_archive
from frostline.porting.readers.weight_file import WeightFile
from porting.torch_files import check, hand_made, pickled, read, refused, rewritten, saved

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.int64,
    torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool,
    torch.complex64, torch.complex128,
]  # fmt: skip


def test_every_dtype(tmp_path):
    state = {str(dtype): torch.tensor([0, 1, 2, 3], dtype=torch.float32).to(dtype) for dtype in DTYPES}
    check(*read(saved(tmp_path, state)), state)


def test_views_of_memories(tmp_path):
    base = torch.arange(60.0)
    state = {
        "turned": base.reshape(3, 4, 5).permute(2, 0, 1), "part": base[7:19:3],
        "repeated": base[3:5, None].expand(2, 6),
        "empty": base[:0].reshape(0, 3), "scalar": torch.tensor(3.5), "end": base[59:],
        "last": base.reshape(6, 10).to(memory_format=torch.contiguous_format)[:, 9], "channels": base.reshape(
            1, 3, 4, 5).to(memory_format=torch.channels_last),
    }  # fmt: skip
    check(*read(saved(tmp_path, state)), state)


def test_parameters_and_attributes(tmp_path):
    weight = nn.Parameter(torch.ones(2))
    marked = torch.zeros(2)
    marked.kind = "one"
    check(*read(saved(tmp_path, {"a": weight, "b": marked})), {"a": weight, "b": marked})


@pytest.mark.filterwarnings("ignore")
def test_sparse_and_quantised_tensors_are_unpacked(tmp_path):
    dense = torch.tensor([[0.0, 2.0, 0.0], [3.0, 0.0, 4.5]])
    weight = torch.linspace(-1, 1, 24).reshape(4, 6)
    scales, zeros = torch.rand(4).double() + 0.01, torch.tensor([1, -2, 3, 0])
    state = {
        "coo": dense.to_sparse(), "csr": dense.to_sparse_csr(), "csc": dense.to_sparse_csc(),
        "bsr": torch.eye(4).to_sparse_bsr((2, 2)),
        "whole": torch.quantize_per_tensor(weight, 0.0137, 3, torch.qint8),
        "unsigned": torch.quantize_per_tensor(weight, 0.0137, 3, torch.quint8),
        "channels": torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8),
        "columns": torch.quantize_per_channel(weight, torch.rand(6).double() + 0.01, torch.arange(6), 1, torch.qint8),
    }  # fmt: skip
    plain = {name: one.dequantize() if one.is_quantized else one.to_dense() for name, one in state.items()}
    found, source = read(saved(tmp_path, state))
    check(found, source, plain)
    assert source.notes == ("8 sparse or quantised tensors were converted to plain ones, such as 'coo'.",)


def test_tensors_without_values_are_refused_when_they_are_asked_for(tmp_path):
    path = saved(tmp_path, {"w": torch.empty(3, device="meta")})
    with WeightFile(path) as file:
        (one,) = torch_archive.read(file, None).tensors
        assert one.shape == (3,)
        with pytest.raises(PortError, match="no values"):
            one.load()


@pytest.mark.parametrize(
    "rest",
    [b"K\0K\5\x85K\1\x85", b"K\1K\4\x85K\1\x85", b"K\0K\2\x85K\4\x85", b"K\0K\4\x85J\xff\xff\xff\xff\x85",
     b"J\xff\xff\xff\xffK\4\x85K\1\x85", b"K\0J\xff\xff\xff\xff\x85K\1\x85", b"K\0K\4\x85)", b"K\0K\4\x85K\1K\1\x86",
     b"K\0\x8a\x08" + b"\xff" * 7 + b"\x7f\x85K\0\x85", b"K\0J\xff\xff\xff\x7f\x85K\0\x85", b"NK\4\x85K\1\x85",
     b"K\0]K\1\x85", b"K\0NK\1\x85", b"G\0\0\0\0\0\0\0\0K\4\x85K\1\x85",
     b"K\0(" + b"K\1" * 65 + b"t(" + b"K\1" * 65 + b"t"],
)  # fmt: skip
def test_views_that_lie_outside_of_their_memory(tmp_path, rest):
    refused(hand_made(tmp_path / "a.pt", pickled(rest=rest)), "damaged")


@pytest.mark.parametrize(
    ("pickle", "match"),
    [(b"ctorch._utils\n_rebuild_tensor_v2\n)R", "damaged"), (b"ctorch._utils\n_rebuild_parameter\n)R", "damaged"),
     (b"ctorch._utils\n_rebuild_tensor_v3\n(K\0K\0K\0K\0K\0K\0ctorch\nSize\ntR", "damaged"),
     (b"ctorch._tensor\n_rebuild_from_type_v2\n)R", "damaged"),
     (b"ctorch._utils\n_rebuild_qtensor\n(NNNN)tR", "damaged"),
     (b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch\nSize\nctorch\nSize\n)NtR", "a tensor of an unsupported class"),
     (b"ctorch._utils\n_rebuild_sparse_tensor\n(N(NNNttR", "damaged"),
     (b"ctorch._utils\n_rebuild_tensor_v2\n(NK\0))\x89}}X\4\0\0\0conj\x88stR", "conjugated or negated view"),
     (b"cnumpy.core.multiarray\n_reconstruct\n)R(K\1K\3\x85cnumpy\ndtype\nX\2\0\0\0f4\x85R\x89C\1atb", "damaged"),
     (b"cnumpy.core.multiarray\n_reconstruct\n)RNb", "damaged"),
     (b"cnumpy.core.numeric\n_frombuffer\n)R", "damaged"),
     (b"cnumpy.core.multiarray\n_reconstruct\n)R(K\1Ncnumpy\ndtype\nX\2\0\0\0f4\x85R\x89C\1atb", "damaged"),
     (b"cnumpy.core.multiarray\n_reconstruct\n)R(K\1)cnumpy\ndtype\nX\2\0\0\0f4\x85R\x89Ntb", "damaged")],
)  # fmt: skip
def test_records_that_are_no_tensors(tmp_path, pickle, match):
    refused(hand_made(tmp_path / "a.pt", b"\x80\3}X\1\0\0\0w" + pickle + b"s."), match)


def test_sparse_tensors_whose_indices_lie_outside(tmp_path):
    for value in (torch.ones(2, 3).to_sparse(), torch.ones(2, 3).to_sparse_csr()):
        path = saved(tmp_path, {"w": value})
        rewritten(path, lambda members: {**members, "a/data/0": b"\x7f" * len(members["a/data/0"])})
        refused(path, "damaged", name="indices")


@pytest.mark.filterwarnings("ignore")
def test_a_sparse_tensor_must_not_fill_the_memory(tmp_path):
    huge = torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.long), torch.ones(1), (100_000, 100_000))
    refused(saved(tmp_path, {"w": huge}), "damaged", name="40000000000 bytes")
    refused(saved(tmp_path, {"w": torch.ones(1).expand(10**9)}), "damaged", name="4000000000 bytes")
