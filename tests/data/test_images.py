from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import frostline as fl
from frostline.data import ImageFolder
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


def test_white_is_one_and_black_is_zero(tmp_path):
    for name, value in (("a", 255), ("b", 0)):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(tmp_path / name / "1.png")
    data = ImageFolder(tmp_path)
    assert torch.equal(data[0][0], torch.ones(3, 4, 4))
    assert torch.equal(data[1][0], torch.zeros(3, 4, 4))


def test_files_beside_the_class_folders_are_no_classes(tmp_path):
    root = folder(tmp_path)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(root / "cover.png")
    (root / "readme").write_text("about these images")
    assert ImageFolder(root).classes == ("cat", "dog")


def test_keys_follow_the_content_of_the_file(tmp_path):
    data = ImageFolder(folder(tmp_path))
    key = data.sample_key(0)
    assert data.sample_key(0) == key != data.sample_key(1)
    data.paths[0].write_bytes(data.paths[1].read_bytes())
    assert data.sample_key(0) == data.sample_key(1)


def test_a_file_that_has_not_changed_is_hashed_once(tmp_path, monkeypatch):
    data = ImageFolder(folder(tmp_path))
    reads = []
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: reads.append(path) or real(path))
    assert len({data.sample_key(0) for _ in range(3)}) == 1
    assert len(reads) == 1
    data.paths[0].write_bytes(real(data.paths[1]))
    data.sample_key(0)
    assert len(reads) == 2


def test_a_transform_must_be_describable(tmp_path):
    transforms = import_torchvision().transforms
    root = folder(tmp_path)
    small, large = (ImageFolder(root, transforms.Resize(size)).fingerprint for size in (8, 9))
    assert small != large
    with pytest.raises(fl.DataError, match="transform cannot be described"):
        ImageFolder(root, lambda image: image)
    assert ImageFolder(root, lambda image: image, fingerprint="mine").fingerprint == "mine"


def test_the_fingerprint_holds_what_the_text_of_a_transform_leaves_out(tmp_path):
    transforms = import_torchvision().transforms
    root = folder(tmp_path)

    def turned(degrees):
        return lambda image: image.rotate(degrees)

    given = [
        transforms.Lambda(turned(5)), transforms.Lambda(turned(6)),
        transforms.Lambda(lambda image: image.resize((9, 9))),
        transforms.Compose([transforms.Lambda(lambda image: image.resize((9, 8)))]),
        transforms.RandomCrop(8, fill=1), transforms.RandomCrop(8, fill=2),
    ]  # fmt: skip
    assert len({ImageFolder(root, transform).fingerprint for transform in given}) == len(given)
    assert ImageFolder(root, transforms.Lambda(turned(5))).fingerprint == ImageFolder(root, given[0]).fingerprint
    with pytest.raises(fl.DataError, match="transform cannot be described"):
        ImageFolder(root, transforms.Lambda(turned(object())))


def test_the_fingerprint_follows_a_transform_that_is_edited(tmp_path):
    data = ImageFolder(folder(tmp_path), import_torchvision().transforms.Resize(8))
    part = fl.data.Part(data, [0])
    before = data.fingerprint
    data.transform.size = 9
    assert part.fingerprint == data.fingerprint != before


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
    for name, received in ((".hidden", "none"), ("cat", "cat")):
        (tmp_path / "one" / name).mkdir(parents=True)
        with pytest.raises(fl.DataError, match="at least two classes") as error:
            ImageFolder(tmp_path / "one")
        assert error.value.received == f"class folders: {received}"
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


def test_depth_transparency_and_ranges_that_are_not_known(tmp_path):
    root = folder(tmp_path)
    Image.fromarray(np.full((2, 2), 65535 // 2, np.uint16)).save(root / "cat" / "a16.png")
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(root / "cat" / "alpha.png")
    Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(root / "cat" / "float.tif")
    data = ImageFolder(root)
    by_name = {path.name: at for at, path in enumerate(data.paths)}
    assert data[by_name["a16.png"]][0].unique().tolist() == pytest.approx([127 / 255])
    assert data[by_name["alpha.png"]][0].unique().tolist() == [1.0]
    with pytest.raises(fl.DataError, match="range of an image's numbers"):
        data[by_name["float.tif"]]


def test_rotation_palettes_and_inks_become_upright_rgb(tmp_path):
    root = folder(tmp_path)
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255  # its left half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: left becomes up
    Image.fromarray(pixels).save(root / "cat" / "turned.png", exif=exif)
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 0, 0, 255])
    palette.save(root / "cat" / "palette.png")
    palette.save(root / "cat" / "clear.png", transparency=1)
    Image.new("CMYK", (2, 2), (0, 255, 255, 0)).save(root / "cat" / "inks.tif")
    data = ImageFolder(root)
    shown = {path.name: data[at][0] for at, path in enumerate(data.paths)}
    assert shown["turned.png"].shape == (3, 16, 8)
    assert (float(shown["turned.png"][:, :8].min()), float(shown["turned.png"][:, 8:].max())) == (1.0, 0.0)
    assert shown["palette.png"][:, 0, 0].tolist() == [0.0, 0.0, 1.0]
    assert shown["clear.png"].unique().tolist() == [1.0]
    assert shown["inks.tif"][:, 0, 0].tolist() == [1.0, 0.0, 0.0]


def named(data, name):
    return data[[path.name for path in data.paths].index(name)][0]


def test_a_range_that_is_told_scales_floats_and_many_bits(tmp_path):
    root = folder(tmp_path)
    values = np.array([[0.0, 0.5], [1.0, 2.0]])
    Image.fromarray(values.astype(np.float32)).save(root / "cat" / "f.tif")
    Image.fromarray((values * 1000).astype(np.int32)).save(root / "cat" / "i.tif")
    Image.fromarray((values * 2047).astype(np.uint16)).save(root / "cat" / "u.png")
    data = ImageFolder(root)
    at = {path.name: index for index, path in enumerate(data.paths)}
    for name in ("f.tif", "i.tif"):
        with pytest.raises(fl.DataError, match="range of an image's numbers") as error:
            data[at[name]]
        told = eval(error.value.do.split("value_range=")[1].split(");")[0])
        assert ImageFolder(root, value_range=told)[at[name]][0].unique().tolist() == pytest.approx(
            [0, 64 / 255, 128 / 255, 1]
        )
    for name, told in (("f.tif", (0, 1)), ("i.tif", (0, 1000)), ("u.png", (0, 2047))):
        assert ImageFolder(root, value_range=told)[at[name]][0][0].tolist() == [
            [0, pytest.approx(128 / 255, abs=5e-3)],
            [1, 1],
        ]
    assert ImageFolder(root, value_range=(1, 0))[at["f.tif"]][0][0, 0, 0] == 1


def test_numbers_that_are_not_finite_are_no_image(tmp_path):
    root = folder(tmp_path)
    Image.fromarray(np.array([[np.nan, 1.0]], np.float32)).save(root / "cat" / "a.tif")
    with pytest.raises(fl.DataError, match="not finite"):
        named(ImageFolder(root, value_range=(0, 1)), "a.tif")


def test_the_transparent_level_of_sixteen_bits_and_the_colour_behind_it(tmp_path):
    root = folder(tmp_path)
    Image.fromarray(np.array([[0, 300]], np.uint16)).save(root / "cat" / "a.png", transparency=300)
    Image.new("LA", (1, 1), (0, 0)).save(root / "cat" / "b.png")
    assert named(ImageFolder(root), "a.png")[0].tolist() == [[0, 1]]
    grey = ImageFolder(root, background="#808080")
    assert named(grey, "a.png")[:, 0, 1].tolist() == pytest.approx([128 / 255] * 3)
    assert named(grey, "b.png")[:, 0, 0].tolist() == pytest.approx([128 / 255] * 3)


def test_what_is_behind_and_what_is_white_belong_to_the_fingerprint(tmp_path):
    root = folder(tmp_path)
    options = [{}, {"background": "black"}, {"value_range": (0, 1)}, {"fingerprint": "mine"},
               {"fingerprint": "mine", "background": "black"}]  # fmt: skip
    assert len({ImageFolder(root, **option).fingerprint for option in options}) == len(options)
    assert ImageFolder(root, background="white").fingerprint == ImageFolder(root).fingerprint


@pytest.mark.parametrize(
    "options",
    [{"background": "no colour"}, {"background": 3}, {"value_range": (0, 0)}, {"value_range": (0, 1, 2)},
     {"value_range": (0,)}, {"value_range": 3}, {"value_range": ("a", "b")}],
)  # fmt: skip
def test_colours_and_ranges_that_are_none_are_refused(tmp_path, options):
    with pytest.raises(fl.DataError):
        ImageFolder(folder(tmp_path), **options)


def test_numbers_of_32_bits_have_a_range_only_in_some_formats(tmp_path):
    root = folder(tmp_path)
    Image.fromarray(np.full((2, 2), 70_000, np.int32)).save(root / "cat" / "wide.tif")
    (root / "cat" / "deep.pgm").write_bytes(b"P5 2 1 65535 " + bytes([0xFF, 0xFF, 0, 0]))
    data = ImageFolder(root)
    by_name = {path.name: at for at, path in enumerate(data.paths)}
    assert data[by_name["deep.pgm"]][0][:, 0].tolist() == [[1.0, 0.0]] * 3
    with pytest.raises(fl.DataError, match="range of an image's numbers") as error:
        data[by_name["wide.tif"]]
    assert "70000 to 70000" in error.value.received


def test_images_lie_anywhere_in_a_class_and_hidden_files_and_folders_are_none(tmp_path):
    root = folder(tmp_path, 1)
    (root / "cat" / "more").mkdir()
    (root / "cat" / "folder.png").mkdir()
    for name in ("more/A.JPG", ".hidden.png"):
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(root / "cat" / name)
    data = ImageFolder(root)
    assert [str(path.relative_to(root)) for path in data.paths] == ["cat/0.png", "cat/more/A.JPG", "dog/0.png"]


def test_a_transform_is_a_function_and_is_applied(tmp_path):
    root = folder(tmp_path)
    with pytest.raises(fl.DataError, match="transform cannot be called"):
        ImageFolder(root, 3)
    with pytest.raises(fl.DataError, match="fingerprint is not a name"):
        ImageFolder(root, fingerprint="")
    assert ImageFolder(root, lambda image: image.size, fingerprint="sizes")[0] == ((10, 12), 0)


def test_the_description_and_the_keys_are_the_same_in_every_version(tmp_path):
    """Features that an earlier version has stored are found again."""
    data = ImageFolder(folder(tmp_path))
    data.paths[0].write_bytes(b"the bytes of a file")
    assert (data.fingerprint, data.sample_key(0).hex()) == ("images/3 None", "0f599b9451f725bfe1eb79476b364173")
