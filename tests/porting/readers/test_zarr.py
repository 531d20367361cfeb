import json

import pytest

from frostline.core.errors import PortError
from frostline.porting.readers.weight_file import WeightFile
from frostline.porting.readers.zarr import version_2, version_3

V2 = {"chunks": [2, 3], "compressor": {"id": "zstd", "level": 1}, "dimension_separator": ".", "dtype": "<f4",
      "fill_value": None, "filters": None, "order": "C", "shape": [4, 3], "zarr_format": 2}  # fmt: skip
CODECS = {"chunk_shape": [2, 3], "codecs": [{"name": "bytes"}, {"name": "zstd"}], "index_codecs": [{"name": "crc32c"}]}
SHARDED = [{"name": "sharding_indexed", "configuration": CODECS}]
V3 = {"chunk_grid": {"configuration": {"chunk_shape": [2, 3]}, "name": "regular"}, "codecs": SHARDED,
      "data_type": "bfloat16", "fill_value": 0.0, "node_type": "array", "shape": [5, 3], "zarr_format": 3}  # fmt: skip


@pytest.fixture
def file(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    with WeightFile(tmp_path / "a") as opened:
        yield opened


def test_both_versions(file):
    found = version_2(file, "a", json.dumps(V2).encode())
    assert (found.version, found.shape, found.dtype, found.num_chunks, found.num_bytes) == (2, (4, 3), "float32", 2, 48)
    assert version_2(file, "a", json.dumps(V2 | {"dtype": "bfloat16"}).encode()).dtype == "bfloat16"
    assert version_2(file, "a", json.dumps(V2 | {"shape": [], "chunks": []}).encode()).num_chunks == 1
    found = version_3(file, "a", json.dumps(V3).encode())
    assert (found.version, found.shape, found.dtype, found.num_chunks) == (3, (5, 3), "bfloat16", 3)


DAMAGED = [
    {"shape": [-4, 3]}, {"shape": [2**62, 2**62]}, {"shape": [1] * 65, "chunks": [1] * 65}, {"shape": "4"},
    {"shape": [4.0, 3]}, {"shape": [True, 3]}, {"chunks": [2]}, {"chunks": [0, 3]}, {"chunks": [-1, 3]},
    {"chunks": [2**40, 3]}, {"shape": [10**7, 1], "chunks": [1, 1]}, {"chunks": None},
]  # fmt: skip


@pytest.mark.parametrize("change", DAMAGED, ids=str)
def test_impossible_shapes_are_refused(file, change):
    with pytest.raises(PortError, match="damaged"):
        version_2(file, "a", json.dumps(V2 | change).encode())
    grid = {"name": "regular", "configuration": {"chunk_shape": change.get("chunks", [2, 3])}}
    with pytest.raises(PortError, match="damaged"):
        version_3(file, "a", json.dumps(V3 | {"shape": change.get("shape", [4, 3]), "chunk_grid": grid}).encode())


@pytest.mark.parametrize(
    "change",
    [{"compressor": {"id": "lzma"}}, {"compressor": {"id": {}}}, {"compressor": {"id": "pickle"}},
     {"filters": [{"id": "delta"}]}, {"order": "F"},
     {"fill_value": "AAAA"}, {"fill_value": [1]}, {"dtype": "O"}, {"dtype": "|V8"}, {"dtype": ">f4"},
     {"dtype": [["a", "<f4"]]}],
    ids=str,
)  # fmt: skip
def test_what_no_checkpoint_needs_is_refused_in_version_2(file, change):
    with pytest.raises(PortError, match="array in an unsupported form"):
        version_2(file, "a", json.dumps(V2 | change).encode())


@pytest.mark.parametrize(
    "change",
    [{"node_type": "group"}, {"storage_transformers": [{"name": "x"}]}, {"codecs": [{"name": "numcodecs.pickle"}]},
     {"codecs": None}, {"codecs": [{"name": ["bytes"]}]},
     {"codecs": [SHARDED[0] | {"configuration": {"codecs": [{"name": "x"}], "index_codecs": []}}]},
     {"chunk_grid": {"name": "rectilinear"}}, {"fill_value": {}}, {"data_type": "string"},
     {"data_type": {"name": "r8"}}],
    ids=str,
)  # fmt: skip
def test_what_no_checkpoint_needs_is_refused_in_version_3(file, change):
    with pytest.raises(PortError, match="array in an unsupported form"):
        version_3(file, "a", json.dumps(V3 | change).encode())


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"compressor": 1}', b'{"chunk_grid": []}', b'{"a": 1, "a": 2}'])
def test_other_texts_are_refused(file, text):
    for parse in (version_2, version_3):
        with pytest.raises(PortError):
            parse(file, "a", text)
