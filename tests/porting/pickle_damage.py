"""Damaged pickles inside of intact archives: a zip archive's checksums would refuse what is damaged outside."""

import random
import zipfile
from collections.abc import Iterator
from pathlib import Path

from frostline.core.errors import PortError
from frostline.porting.readers import torch_archive
from frostline.porting.readers.weight_file import WeightFile


def damaged(content: bytes, seed: int) -> bytes:
    """Some bytes changed, removed, repeated or put in, a seed always the same."""
    rng = random.Random(seed)
    raw = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(raw))
        some = raw[at : at + rng.randint(1, 12)]
        kind = rng.randrange(5)
        if kind == 0:
            raw[at] = rng.randrange(256)
        elif kind == 1:
            del raw[at : at + len(some)]
        elif kind == 2:
            raw[at:at] = some
        elif kind == 3:
            raw[at:at] = rng.choice(
                [b"\xff\xff\xff\x7f", b"J\xff\xff\xff\xff", b"R", b"b", b"s", b"u", b"N", b"}", b"]", b"("]
            )
        else:
            raw[at] ^= 1 << rng.randrange(8)
    return bytes(raw)


def outcomes(fixture: Path, folder: Path, seeds: range) -> Iterator[str]:
    """For each seed: `source` or `refused`; whatever else is raised is raised here."""
    with zipfile.ZipFile(fixture) as archive:
        members = {one.filename: archive.read(one) for one in archive.infolist()}
    (name,) = (one for one in members if one.endswith("/data.pkl"))
    path = folder / "damaged.pt"
    for seed in seeds:
        with zipfile.ZipFile(path, "w") as archive:
            for one, raw in members.items():
                archive.writestr(zipfile.ZipInfo(one), damaged(raw, seed) if one == name else raw)
        try:
            with WeightFile(path) as file:
                for tensor in torch_archive.read(file, None).tensors:
                    loaded = tensor.load()
                    assert (tuple(loaded.shape), str(loaded.dtype)) == (tensor.shape, f"torch.{tensor.dtype}"), seed
            yield "source"
        except PortError as error:
            assert all(error.parts().values()), seed
            yield "refused"
