"""Doors of the data sets, with files and folders in every state."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from exams.fuzz.public import scalars as s
from exams.fuzz.public.caching_doors import INDEX_LISTS
from exams.fuzz.public.datasets import CLASSES, DATASETS, X
from exams.fuzz.public.doors import GENERATORS, Door, function
from exams.fuzz.public.pools import Make, Pool, World, constants
from exams.fuzz.public.tensors import OTHERS, TENSORS
from exams.fuzz.public.trainers import METRICS
from frostline import data

ANY = {**TENSORS, **OTHERS}


def _npz(**arrays: Any) -> Make:
    def make(world: World) -> Any:
        path = world.folder / "data.npz"
        np.savez(path, **arrays)
        return path

    return make


def _bytes(name: str, content: bytes) -> Make:
    def make(world: World) -> Any:
        (world.folder / name).write_bytes(content)
        return world.folder / name

    return make


_x, _y = X.numpy(), CLASSES.numpy()
FILES = Pool(
    {"npz": _npz(x=_x, y=_y)},
    {
        "other names": _npz(a=_x, b=_y),
        "no targets": _npz(x=_x),
        "empty": _npz(),
        "no rows": _npz(x=_x[:0], y=_y[:0]),
        "objects": _npz(x=np.array([None, 1], dtype=object), y=_y[:2]),
        "texts": _npz(x=_x[:2], y=np.array(["a", "b"])),
        "unequal": _npz(x=_x, y=_y[:3]),
        "scalars": _npz(x=np.float32(1), y=np.int64(1)),
        "uint16": _npz(x=_x.astype(np.uint16), y=_y),
        "uint64 targets": _npz(x=_x, y=_y.astype(np.uint64)),
        "nan": _npz(x=_x * np.nan, y=_y),
        "nan targets": _npz(x=_x, y=_y * np.nan),
        "complex": _npz(x=_x + 1j, y=_y),
        "big endian": _npz(x=_x.astype(">f4"), y=_y),
        "bool targets": _npz(x=_x, y=_y > 0),
        "one-hot": _npz(x=_x, y=np.eye(2)[_y]),
        "column": _npz(x=_x, y=_y[:, None]),
        "dates": _npz(x=_x, y=_y.astype("datetime64[s]")),
        "negative": _npz(x=_x, y=_y - 1),
        "huge label": _npz(x=_x, y=_y * 2**40),
        "float128": _npz(x=_x.astype(np.longdouble), y=_y),
        "records": _npz(x=np.zeros(2, dtype=[("a", "f4")]), y=_y[:2]),
        "float labels": _npz(x=_x, y=_y.astype(np.float32)),
        "garbage": _bytes("bad.npz", b"PK garbage"),
        "empty file": _bytes("empty.npz", b""),
        "npy": _bytes("a.npy", b"\x93NUMPY"),
        "csv": _bytes("a.csv", b"1,2\n"),
        "garbage tensors": _bytes("a.safetensors", b"\x08\0\0\0\0\0\0\0{}      "),
        "capital ending": _bytes("A.NPZ", b"x"),
        **s.PATHS,
    },
)


def _images(*files: tuple[str, Any]) -> Make:
    def make(world: World) -> Any:
        from PIL import Image

        root = world.folder / "images"
        for name, content in files:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            else:
                Image.new(content, (6, 5)).save(path)
        root.mkdir(exist_ok=True)
        return root

    return make


IMAGES = Pool(
    {"two classes": _images(("a/1.png", "RGB"), ("b/1.png", "RGB"), ("b/2.png", "L"))},
    {
        "empty": _images(),
        "one class": _images(("a/1.png", "RGB")),
        "stray": _images(("1.png", "RGB"), ("a/1.png", "RGB"), ("b/1.png", "RGB")),
        "no images": _images(("a/1.txt", b"x"), ("b/1.txt", b"x")),
        "garbage": _images(("a/1.png", b"x"), ("b/1.png", "RGB")),
        "empty image": _images(("a/1.png", b""), ("b/1.png", "RGB")),
        "16 bit": _images(("a/1.png", "I;16"), ("b/1.png", "I;16")),
        "float": _images(("a/1.tif", "F"), ("b/1.tif", "F")),
        "alpha": _images(("a/1.png", "RGBA"), ("b/1.png", "LA")),
        "palette": _images(("a/1.png", "P"), ("b/1.gif", "P")),
        "cmyk": _images(("a/1.jpg", "CMYK"), ("b/1.jpg", "CMYK")),
        "one bit": _images(("a/1.png", "1"), ("b/1.png", "1")),
        "integers": _images(("a/1.tif", "I"), ("b/1.tif", "I")),
        "hidden": _images((".a/1.png", "RGB"), ("b/1.png", "RGB")),
        **s.PATHS,
    },
)
TRANSFORMS = Pool(
    {"-": lambda _: None},
    {
        **constants({"text": "resize", "number": 3, "lambda": lambda image: image, "list": []}),
        "raises": METRICS.odd["raises"],
        "module": lambda _: nn.Identity(),
    },
)
FINGERPRINTS = Pool(
    constants({"-": None, "text": "v1"}), constants({"number": 3, "empty": "", "bytes": b"v", "list": []})
)


def _read(dataset: Any) -> Any:
    count = len(dataset)
    for index in {0, count - 1}:
        dataset[index]
        if hasattr(dataset, "sample_key"):
            dataset.sample_key(index)
            dataset.target(index)
    return repr(dataset)


DOORS: list[Door] = [
    Door(
        "data.Arrays",
        data.Arrays.__init__,
        {
            "inputs": Pool({"tensor": lambda _: X}, ANY),
            "targets": Pool({"classes": lambda _: CLASSES, "numbers": lambda _: X[:, 0]}, ANY),
            "classes": Pool({"none": lambda _: None, "names": lambda _: tuple("abcdefgh")}, ANY),
        },
        lambda w, _, v: _read(data.Arrays(**v)),
    ),
    Door("data.load_arrays", data.load_arrays, {"path": FILES}, lambda w, _, v: _read(data.load_arrays(**v))),
    Door(
        "data.ImageFolder",
        data.ImageFolder.__init__,
        {
            "root": IMAGES,
            "transform": TRANSFORMS,
            "fingerprint": FINGERPRINTS,
            "background": Pool({"white": lambda _: "white", "number": lambda _: "#102030"}, ANY),
            "value_range": Pool({"none": lambda _: None, "unit": lambda _: (0, 1)}, ANY),
        },
        lambda w, _, v: _read(data.ImageFolder(**v)),
        moves=GENERATORS,
    ),
    Door(
        "data.CenterCrop",
        data.CenterCrop.__init__,
        {
            "size": Pool({"8": lambda _: 8}, ANY),
            "mean": Pool({"grey": lambda _: (0.5, 0.5, 0.5)}, ANY),
            "std": Pool({"ones": lambda _: (1.0, 1.0, 1.0)}, ANY),
        },
        lambda w, _, v: data.CenterCrop(**v),
    ),
    Door(
        "data.RandomCrop",
        data.RandomCrop.__init__,
        {
            "size": Pool({"8": lambda _: 8}, ANY),
            "mean": Pool({"grey": lambda _: (0.5, 0.5, 0.5)}, ANY),
            "std": Pool({"ones": lambda _: (1.0, 1.0, 1.0)}, ANY),
            "scale": Pool({"half": lambda _: (0.5, 1.0)}, ANY),
            "ratio": Pool({"square": lambda _: (1.0, 1.0)}, ANY),
            "flip": Pool({"never": lambda _: 0.0}, ANY),
            "colour": Pool({"none": lambda _: 0.0, "some": lambda _: 0.4}, ANY),
        },
        lambda w, _, v: data.RandomCrop(**v),
    ),
    Door(
        "data.Part",
        data.Part.__init__,
        {"dataset": DATASETS, "indices": INDEX_LISTS},
        lambda w, _, v: _read(data.Part(**v)),
        moves=GENERATORS,
        allowed=(IndexError,),
    ),
    function("data.class_names", data.class_names, {"dataset": DATASETS}, moves=GENERATORS),
    function("data.labels_of", data.labels_of, {"dataset": DATASETS}, moves=GENERATORS),
    function("data.with_classes_of", data.with_classes_of, {"train": DATASETS, "val": DATASETS}),
    function(
        "data.split_share",
        data.split_share,
        {
            "dataset": Pool({"arrays": lambda _: data.Arrays(X, CLASSES)}, {**DATASETS.sane, **DATASETS.odd}),
            "share": s.SHARES,
            "seed": s.SEEDS,
        },
    ),
]
