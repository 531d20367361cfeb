from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from frostline.core.errors import PortError
from frostline.porting.readers import formats
from frostline.porting.readers.formats import READERS, open_source
from frostline.porting.readers.weight_file import WeightFile

FILES = Path(__file__).parents[1] / "files"
KNOWN = [path for path in sorted(FILES.rglob("*")) if path.is_file() and path.suffix in
         (".keras", ".h5", ".pdparams", ".onnx", ".msgpack", ".pt", ".safetensors", ".params")]  # fmt: skip


@pytest.mark.parametrize("path", KNOWN, ids=lambda path: str(path.relative_to(FILES)))
def test_a_format_is_told_by_its_content(path, tmp_path):
    renamed = tmp_path / "weights.bin"
    renamed.write_bytes(path.read_bytes())
    with WeightFile(path) as file, WeightFile(renamed) as other:
        first = [reader for reader in READERS if reader.claims(file)]
        assert first
        assert first[0] is next(reader for reader in READERS if reader.claims(other))


def test_arrays_are_read_while_the_file_is_open(tmp_path):
    save_file({"a.weight": torch.ones(2, 2)}, tmp_path / "a.safetensors")
    with open_source(tmp_path / "a.safetensors") as (source, digest):
        assert source.tensors[0].load().tolist() == [[1, 1], [1, 1]]
        assert len(digest) == 64


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path):
    save_file({"a.weight": torch.ones(2, 2)}, tmp_path / "a.safetensors")
    with pytest.raises(PortError, match="changed while it was read"), open_source(tmp_path / "a.safetensors"):
        (tmp_path / "a.safetensors").write_bytes(b"other")


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n", bytes(100), b"<html>", b"\xff" * 64]
)
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(PortError), open_source(tmp_path / "a.h5"):
        pass


def test_a_file_without_arrays_is_refused(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", a=np.ones(1))

    class Empty:
        @staticmethod
        def claims(file):
            return True

        @staticmethod
        def read(file, key):
            return formats.npz.read(file, key).__class__("npz", "numpy", ())

    monkeypatch.setattr(formats, "READERS", (Empty,))
    with pytest.raises(PortError, match="The file holds no weights"), open_source(tmp_path / "a.npz"):
        pass
