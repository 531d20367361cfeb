import json
import struct
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import frostline as fl
from frostline.caching.reading import exported_rows
from frostline.caching.store import shard_writer
from helpers_caching import D, Masked, MaskedPart, N, Part, dataset, fill
from helpers_commands import run
from helpers_lengths import Sentences, pad, sentences

NEEDS_PYARROW = "needs the extra `parquet` (pip install pyarrow)"


def read_plain(path):
    """A safetensors file read with nothing but json and struct."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    about = header.pop("__metadata__")
    return about, {name: (own, data[8 + length :][slice(*own["data_offsets"])]) for name, own in header.items()}


def test_samples_are_exported_in_their_order_with_ids_and_targets(tmp_path):
    data = fill(tmp_path / "cache")
    done = data.export(tmp_path / "rows.safetensors")
    found = load_file(tmp_path / "rows.safetensors")
    assert set(found) == {"id", "target", "low"} == set(done.columns)
    assert torch.equal(found["low"], dataset().tensors[0] * 2)
    assert torch.equal(found["target"], dataset().tensors[1])
    assert torch.equal(found["id"], data._gatherer.keys)
    assert (done.rows, done.bytes) == (N, (tmp_path / "rows.safetensors").stat().st_size)
    about, plain = read_plain(tmp_path / "rows.safetensors")
    assert about["recipe"] == fl.FeatureCache(tmp_path / "cache").entries()[0].recipe
    assert struct.unpack(f"<{N * D}f", plain["low"][1]) == tuple((dataset().tensors[0] * 2).flatten().tolist())


def test_rows_of_a_recipe_are_exported_each_sample_once(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "_SHARD_SECONDS", 0.0)
    monkeypatch.setattr("frostline.caching.fill.fill.merge", lambda *_: False)  # several shards stay
    fill(tmp_path / "cache", batch_size=8)
    monkeypatch.setattr(exported_rows, "_CHUNK_BYTES", 100)  # several chunks, each over several shards
    cache = fl.FeatureCache(tmp_path / "cache")
    assert cache.stats().shards > 1
    done = cache.export(tmp_path / "rows.safetensors")
    with safe_open(tmp_path / "rows.safetensors", "pt") as file:
        assert file.metadata() == {"recipe": cache.entries()[0].recipe, "storage": "exact", "error": "0"}
        assert sorted(file.keys()) == ["id", "low"]
        rows = file.get_tensor("low")
    assert done.rows == N
    assert torch.equal(rows[rows[:, 0].argsort()], (2 * dataset().tensors[0])[dataset().tensors[0][:, 0].argsort()])


def test_inputs_of_the_head_belong_to_a_dataset_and_not_to_a_recipe(tmp_path):
    data = fill(tmp_path / "cache", MaskedPart(), Masked(0, 9))
    done = fl.FeatureCache(tmp_path / "cache").export(tmp_path / "rows.safetensors")
    assert done.columns == ("id", "low")
    assert "not among the rows: input.mask" in str(done)
    data.export(tmp_path / "own.safetensors")
    assert "input.mask" in load_file(tmp_path / "own.safetensors")


def test_rounded_rows_are_exported_as_the_loader_gives_them(tmp_path):
    data = fill(tmp_path / "cache", storage="int8")
    data.export(tmp_path / "own.safetensors")
    assert torch.equal(load_file(tmp_path / "own.safetensors")["low"], torch.cat([f[0] for f, _ in data.loader(8)]))
    fl.FeatureCache(tmp_path / "cache").export(tmp_path / "rows.safetensors")
    stored = load_file(tmp_path / "rows.safetensors")
    assert stored["low"].dtype == torch.int8
    assert torch.equal(stored["low"] * stored["low scale"], load_file(tmp_path / "own.safetensors")["low"])


def test_views_are_exported_one_behind_the_other(tmp_path):
    class Noisy:
        def __len__(self):
            return 5

        def __getitem__(self, index):
            return dataset().tensors[0][index] + torch.rand(D), index

    fill(tmp_path / "cache", data=Noisy(), views=2).export(tmp_path / "rows.safetensors")
    found = load_file(tmp_path / "rows.safetensors")
    assert found["view"].tolist() == [0] * 5 + [1] * 5
    assert found["target"].tolist() == [*range(5)] * 2


def unpadded(found, name):
    """The rows of a varying tensor, cut by their shapes."""
    shapes = found[f"{name} shapes"]
    parts = found[name].split(shapes.long().prod(1).tolist())
    return [part.view(shape.tolist()) for part, shape in zip(parts, shapes, strict=True)]


def test_rows_of_differing_length_are_exported_without_padding(tmp_path):
    torch.manual_seed(0)
    model, items = Sentences(), sentences()
    fl.freeze(model, through="low")
    own = pad(items[:4])
    split = fl.split(model, {key: own[key] for key in ("ids", "mask")})
    data = fl.FeatureCache(tmp_path / "cache").fill(split, items, collate_fn=pad, progress=False)
    data.export(tmp_path / "own.safetensors")
    fl.FeatureCache(tmp_path / "cache").export(tmp_path / "rows.safetensors")
    names = [tensor.name for tensor in data.frontier]
    varying = [tensor.name for tensor in data.frontier if tensor.is_varying]
    assert varying
    for name in varying:
        rows = unpadded(load_file(tmp_path / "own.safetensors"), name)
        for index, row in enumerate(rows):
            assert torch.equal(row, data[index][0][names.index(name)])
        others = unpadded(load_file(tmp_path / "rows.safetensors"), name)
        assert sorted(len(row) for row in others) == sorted(len(row) for row in rows)


def test_a_name_that_is_taken_or_of_another_type_is_refused(tmp_path):
    data = fill(tmp_path / "cache")
    with pytest.raises(fl.DataError, match="exported as safetensors or Parquet"):
        data.export(tmp_path / "rows.csv")
    (tmp_path / "rows.safetensors").write_text("mine")
    with pytest.raises(fl.DataError, match="is not replaced"):
        data.export(tmp_path / "rows.safetensors")
    assert (tmp_path / "rows.safetensors").read_text() == "mine"


def test_a_type_that_no_file_can_hold_is_refused(tmp_path):
    targets = torch.zeros(N, dtype=torch.complex128)
    data = fill(tmp_path / "cache", data=torch.utils.data.TensorDataset(dataset().tensors[0], targets))
    with pytest.raises(fl.DataError, match="A file of this type cannot hold"):
        data.export(tmp_path / "rows.safetensors")


def test_a_cache_without_rows_or_with_several_recipes_says_what_to_do(tmp_path):
    cache = fl.FeatureCache(tmp_path / "cache")
    with pytest.raises(fl.CacheError, match="This cache holds no features"):
        cache.export(tmp_path / "rows.safetensors")
    fill(tmp_path / "cache")
    fill(tmp_path / "cache", Part(3.0))
    with pytest.raises(fl.CacheError, match="The cache holds several recipes") as error:
        cache.export(tmp_path / "rows.safetensors")
    assert "recipe=" in error.value.do
    one = cache.entries()[0].recipe
    cache.export(tmp_path / "rows.safetensors", recipe=one[:8])
    cache.forget(dataset())
    with pytest.raises(fl.CacheError, match="There are no rows to export"):
        cache.export(tmp_path / "none.safetensors", recipe=one[:8])


def test_a_tensor_of_an_unknown_type_in_a_manifest_is_refused():
    with pytest.raises(fl.CacheError, match="a tensor that this version does not know"):
        exported_rows._tensor(["low", [3], "torch.float3", False])


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    data = fill(tmp_path / "cache")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(fl.DataError, match="Writing Parquet needs pyarrow"):
        data.export(tmp_path / "rows.parquet")
    assert not list(tmp_path.glob("rows*"))


def test_a_parquet_file_has_a_row_for_each_sample(tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet", reason=NEEDS_PYARROW)
    monkeypatch.setattr(exported_rows, "_CHUNK_BYTES", 1000)
    data = fill(tmp_path / "cache")
    done = data.export(tmp_path / "rows.parquet")
    file = parquet.ParquetFile(tmp_path / "rows.parquet")
    assert file.num_row_groups > 1
    found = file.read().to_pydict()
    assert torch.equal(torch.tensor(found["low"]), dataset().tensors[0] * 2)
    assert found["target"] == dataset().tensors[1].tolist()
    assert found["id"] == [bytes(key).hex() for key in data._gatherer.keys.numpy()]
    assert json.loads(file.schema_arrow.metadata[b"shapes"])["low"] == [D]
    assert done.rows == N


def test_the_command_exports(tmp_path):
    fill(tmp_path / "cache")
    out = tmp_path / "rows.safetensors"
    told = json.loads(run("cache", "export", "--cache", tmp_path / "cache", "--out", out, "--json").stdout)
    assert (told["rows"], told["path"], told["columns"]) == (N, str(out), ["id", "low"])
    assert torch.equal(load_file(out)["low"], dataset().tensors[0] * 2)
