import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import frostline as fl
from frostline.data import Arrays, ImageFolder, load_arrays, split_share
from helpers_vision import import_torchvision


def folder(root, count=3):
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for at in range(count):
            pixels = np.random.randint(0, 255, (12, 10, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{at}.png")
    (root / ".hidden").mkdir()
    (root / "cat" / "notes.txt").write_text("no image")
    return root


def test_images_are_rgb_in_the_order_of_names(tmp_path):
    root = folder(tmp_path)
    Image.fromarray(np.zeros((12, 10), np.uint8)).save(root / "dog" / "9.png")
    data = ImageFolder(root)
    assert data.classes == ("cat", "dog")
    assert data.labels == [0, 0, 0, 1, 1, 1, 1]
    image, label = data[6]
    assert (image.shape, image.dtype, label) == ((3, 12, 10), torch.float32, 1)
    assert data.target(0) == 0


def test_keys_follow_the_content_of_the_file(tmp_path):
    data = ImageFolder(folder(tmp_path))
    key = data.sample_key(0)
    assert data.sample_key(0) == key != data.sample_key(1)
    data.paths[0].write_bytes(data.paths[1].read_bytes())
    assert data.sample_key(0) == data.sample_key(1)


def test_a_transform_must_be_describable(tmp_path):
    transforms = import_torchvision().transforms
    root = folder(tmp_path)
    small, large = (ImageFolder(root, transforms.Resize(size)).fingerprint for size in (8, 9))
    assert small != large
    with pytest.raises(fl.DataError, match="transform cannot be described"):
        ImageFolder(root, lambda image: image)
    assert ImageFolder(root, lambda image: image, fingerprint="mine").fingerprint == "mine"


def test_a_second_fill_decodes_nothing_but_golden_rows(tmp_path, monkeypatch):
    root = folder(tmp_path / "data", 20)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(360, 4), torch.nn.Linear(4, 2))
    fl.freeze(model, through="1")
    split = fl.split(model, torch.rand(4, 3, 12, 10))
    cache = fl.FeatureCache(tmp_path / "cache")
    cache.fill(split, ImageFolder(root), progress=False)
    opened = []
    real = Image.open
    monkeypatch.setattr(Image, "open", lambda path: opened.append(path) or real(path))
    data = cache.fill(split, ImageFolder(root), progress=False)
    assert len(opened) <= 16
    assert [int(data[at][1]) for at in (0, 39)] == [0, 1]


def test_bad_folders_are_refused(tmp_path):
    with pytest.raises(fl.DataError, match="no such folder"):
        ImageFolder(tmp_path / "missing")
    (tmp_path / "one" / "cat").mkdir(parents=True)
    with pytest.raises(fl.DataError, match="at least two classes"):
        ImageFolder(tmp_path / "one")
    (tmp_path / "one" / "dog").mkdir()
    with pytest.raises(fl.DataError, match="class folder has no images"):
        ImageFolder(tmp_path / "one")
    data = ImageFolder(folder(tmp_path / "two"))
    data.paths[2].write_bytes(data.paths[2].read_bytes()[:60])
    with pytest.raises(fl.DataError, match="image cannot be read") as error:
        data[2]
    assert error.value.where == str(data.paths[2])
    data.paths[2].unlink()
    with pytest.raises(fl.DataError, match="image cannot be read"):
        data.sample_key(2)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_arrays_from_a_file(tmp_path, suffix):
    x, y = np.random.rand(6, 3), np.array([0, 1, 0, 1, 0, 1])
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        np.savez(path, inputs=x, labels=y)
    else:
        save_file({"inputs": torch.tensor(x), "labels": torch.tensor(y)}, path)
    data = load_arrays(path)
    assert (len(data), data.inputs.dtype, data.classes) == (6, torch.float32, ("0", "1"))
    assert data.sample_key(0) != data.sample_key(1)
    assert data.target(1) == 1


def test_bad_arrays_are_refused(tmp_path):
    y = torch.tensor([0, 1, 1])
    with pytest.raises(fl.DataError, match="do not pair up"):
        Arrays(torch.ones(2, 2), y)
    with pytest.raises(fl.DataError, match="inputs are not finite") as error:
        Arrays(torch.tensor([[1.0], [float("nan")], [2.0]]), y)
    assert error.value.received == "NaN or Inf in samples [1]"
    with pytest.raises(fl.DataError, match="a single class"):
        Arrays(torch.ones(3, 2), torch.zeros(3).long())
    with pytest.raises(fl.DataError, match="A label is negative"):
        Arrays(torch.ones(3, 2), torch.tensor([0, -1, 1]))
    np.savez(tmp_path / "a.npz", z=np.ones(2), y=np.ones(2))
    with pytest.raises(fl.DataError, match="no array named 'x'") as error:
        load_arrays(tmp_path / "a.npz")
    assert error.value.received == "arrays named y, z"
    np.savez(tmp_path / "o.npz", x=np.array([object()]), y=np.ones(1))
    for name, content in (("o.npz", None), ("b.npz", b"x"), ("c.safetensors", b"x" * 9), ("missing.npz", None)):
        if content:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(fl.DataError, match="Cannot read arrays"):
            load_arrays(tmp_path / name)


def test_a_share_of_every_class_is_held_out():
    data = Arrays(torch.rand(50, 2), torch.arange(50) % 5)
    train, val = split_share(data, 0.2, 3)
    assert sorted(int(val[at][1]) for at in range(len(val))) == sorted([0, 1, 2, 3, 4] * 2)
    assert set(train.indices).isdisjoint(val.indices)
    assert val.sample_key(0) == data.sample_key(val.indices[0])
    assert val.target(0) == data.target(val.indices[0])
    assert split_share(data, 0.2, 3)[1].indices == val.indices
    with pytest.raises(fl.DataError, match="leaves training or validation without samples"):
        split_share(data, 0.001, 0)
