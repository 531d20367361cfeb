import os
import shutil
from pathlib import Path

import pytest

from frostline.core.errors import PortError
from frostline.porting.readers.folders import open_below, weight_path
from frostline.porting.readers.weight_file import WeightFile

FILES = Path(__file__).parents[1] / "files" / "tensorflow"


def test_a_file_is_itself():
    assert weight_path(FILES / "frozen.pb") == FILES / "frozen.pb"
    assert weight_path(FILES / "missing") == FILES / "missing"  # opening it says so


def test_prefixes_and_data_files_lead_to_their_index(tmp_path):
    for name in ("names.ckpt", "names.ckpt.index", "names.ckpt.data-00000-of-00001"):
        assert weight_path(FILES / name) == FILES / "names.ckpt.index"
    (tmp_path / ".index").write_bytes(b"")  # an empty prefix
    assert weight_path(tmp_path / ".meta") == tmp_path / ".index"
    assert weight_path(tmp_path / "b.meta") == tmp_path / "b.meta"


def test_folders(tmp_path):
    index = FILES / "saved_tfkeras" / "variables" / "variables.index"
    assert weight_path(FILES / "saved_tfkeras") == index
    assert weight_path(FILES / "saved_tfkeras" / "saved_model.pb") == index
    assert weight_path(FILES / "saved_keras3") == FILES / "saved_keras3" / "variables" / "variables.index"
    shutil.copy(FILES / "shards.index", tmp_path / ".index")  # an empty prefix
    assert weight_path(tmp_path) == tmp_path / ".index"
    (tmp_path / "frozen").mkdir()
    shutil.copy(FILES / "frozen.pb", tmp_path / "frozen" / "saved_model.pb")
    assert weight_path(tmp_path / "frozen") == tmp_path / "frozen" / "saved_model.pb"


def test_the_step_of_a_manager(tmp_path):
    (tmp_path / "10" / "default").mkdir(parents=True)
    (tmp_path / "10" / "default" / "_METADATA").write_text("{}")
    assert weight_path(tmp_path) == tmp_path / "10" / "default" / "_METADATA"


def test_tensorflows_note_names_the_latest(tmp_path):
    for step in (1, 2):
        (tmp_path / f"ckpt-{step}.index").write_bytes(b"")
    with pytest.raises(PortError, match="several files of weights") as caught:
        weight_path(tmp_path)
    assert caught.value.received == "ckpt-1.index, ckpt-2.index"
    (tmp_path / "checkpoint").write_text(
        'model_checkpoint_path: "/elsewhere/ckpt-1"\nall_model_checkpoint_paths: "ckpt-2"\n'
    )
    assert weight_path(tmp_path) == tmp_path / "ckpt-1.index"
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "ckpt-7"\n')
    with pytest.raises(PortError, match="several files of weights"):
        weight_path(tmp_path)


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(PortError, match="contains no file with a known name") as caught:
        weight_path(tmp_path)
    assert caught.value.received == "notes.txt"


def test_files_beneath(tmp_path):
    (tmp_path / "outside").write_bytes(b"secret")
    root = tmp_path / "model"
    (root / "parts").mkdir(parents=True)
    (root / "model.onnx").write_bytes(b"")
    (root / "parts" / "a").write_bytes(b"abc")
    (root / "linked").symlink_to(root / "parts")
    (root / "link").symlink_to(tmp_path / "outside")
    os.link(tmp_path / "outside", root / "hard")
    with WeightFile(root / "model.onnx") as file:
        for name in ("parts/a", "./parts/a"):
            with open_below(file, name) as other:
                assert other.read() == b"abc"
        for name in ("../outside", "parts/../../outside", str(tmp_path / "outside"), "link", "hard", "linked/a",
                     "parts//a", "", ".", "parts\\a"):  # fmt: skip
            with pytest.raises(PortError, match="outside of its folder"):
                open_below(file, name)


def test_a_cache_of_downloads_holds_links_into_one_folder(tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot" / "onnx").mkdir(parents=True)
    for name, blob in (("model.onnx", "1f"), ("model.onnx_data", "2e")):
        (tmp_path / "blobs" / blob).write_bytes(blob.encode())
        (tmp_path / "snapshot" / "onnx" / name).symlink_to(f"../../blobs/{blob}")
    with (
        WeightFile(tmp_path / "snapshot" / "onnx" / "model.onnx") as file,
        open_below(file, "model.onnx_data") as other,
    ):
        assert other.read() == b"2e"
