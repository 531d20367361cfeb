"""Damaged files of a cache: single bits that flip, and files that somebody made on purpose.

Hostile files have the right digest: whoever writes a cache can compute it. The law for them: an error in four parts or
a reading, in little time and memory, and no file outside of the cache is opened.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import random
import resource
import shutil
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import frostline as fl
from exams.reliability.building import Samples, scratch
from frostline.caching.store.manifest import read_contents
from frostline.caching.store.shards import Shards, check_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

_ROWS, _WIDTH = 72, 4096  # more than a megabyte of float32
_LIMIT_S = 1.0  # of the processor
_LIMIT_BYTES = 100 * 2**20
_WORDS: list[Any] = [
    None, True, -1, 0, 1, 2**31, 2**63, 2**64 + 1, -(2**70), 1e308, float("inf"), "", "x", "../" * 9 + "etc/passwd",
    "/etc/passwd", "a\0b", "\ud800", "0" * 64 + ".safetensors", [], {}, [[]], "F32", "F64", "U8", "I64", "BOOL",
    [2**40, 2**40], [-1, 4], [0], 10**4000, "9" * 5000,
]  # fmt: skip


class Wide:
    """Rows that make a cache of more than a megabyte."""

    recipe = {"name": "wide"}  # noqa: RUF012 (a constant)
    frontier = (
        fl.FrontierTensor("low", (_WIDTH,), torch.float32, 4 * _WIDTH, False),
        fl.FrontierTensor("input.mask", (1,), torch.float32, 4, False),
    )

    def extract(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """(B, 3) -> (B, _WIDTH), and the mask."""
        x_B3 = inputs["x"]
        return x_B3[:, :1] + torch.arange(_WIDTH), inputs["mask"]


def flipped_bits(count: int, seed: int = 0) -> int:
    """Flip all bits of manifests, and some of the headers and rows of shards; returns how many passed unseen."""
    chance, unseen = random.Random(seed), 0
    with scratch() as name:
        root = Path(name) / "cache"
        for stop in (_ROWS // 2, _ROWS):  # two fills: manifests of the first one are old
            fl.FeatureCache(root).fill(Wide(), Samples(range(stop)), progress=False)
        (folder,) = [path for path in root.iterdir() if path.is_dir()]
        whole = read_contents(folder / "manifests").manifest
        total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        for path in sorted((folder / "manifests").iterdir()):
            bits = _bits_of(path)
            found = Counter(_flip(path, bit, lambda: _reading(folder, whole)) for bit in bits)
            print(f"{path.name}: {len(bits):,} bits, {_told(found)}", flush=True)
            unseen += found["unseen"]
        for shard in sorted((folder / "shards").iterdir()):
            if shard.name not in whole.names():
                print(f"shard of {shard.stat().st_size:,} bytes: replaced by others, and not read", flush=True)
                continue
            size = shard.stat().st_size
            header = 8 * (8 + int.from_bytes(shard.read_bytes()[:8], "little"))
            share = max(1, count * size // total)
            bits = [chance.randrange(header) for _ in range(share)] + [chance.randrange(8 * size) for _ in range(share)]
            found = Counter(_flip(shard, bit, lambda: bool(fl.FeatureCache(root).verify())) for bit in bits)
            print(
                f"shard of {size:,} bytes, {len(whole.names())} needed: {len(bits):,} bits, {_told(found)}", flush=True
            )
            unseen += found["unseen"]
        print(f"bits: a cache of {total:,} bytes, {unseen} unseen", flush=True)
    return unseen


def _bits_of(path: Path) -> Sequence[int]:
    """Every bit of a file."""
    return range(8 * path.stat().st_size)


def _flip(path: Path, bit: int, is_seen: Callable[[], bool | str]) -> str:
    """Flip a bit of a file, look, and put it back."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        old = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([old ^ 1 << bit % 8]))
        file.flush()
        result = is_seen()
        file.seek(bit // 8)
        file.write(bytes([old]))
    return result if isinstance(result, str) else "noticed" if result else "unseen"


def _reading(folder: Path, whole: Any) -> bool | str:
    """Whether a damaged manifest is noticed; one that says the same in other letters is the same."""
    try:
        found = read_contents(folder / "manifests")
    except fl.CacheError:  # a version that is not known
        return True
    return True if found.notes else "the same content" if found.manifest == whole else False


def _told(found: Counter[str]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in sorted(found.items()))


def hostile(count: int, seed: int = 0, seconds: float = 600.0) -> int:
    """Make so many hostile manifests and shards and read each; returns how many broke the law."""
    chance, found, bad = random.Random(seed), Counter[str](), 0
    end = time.process_time() + seconds
    with scratch() as name, _limited(Path(name)) as opened:
        folder, manifest, shard = _seeds(Path(name))
        at = 0
        while at < count and time.process_time() < end:
            at += 1
            own = random.Random(f"{seed} {at}")
            make, read = (_manifest, _read_manifests) if chance.random() < 0.5 else (_shard, _read_shard)
            path = make(folder, own, manifest, shard)
            started, before = time.process_time(), _peak()
            try:
                outcome = read(folder, path)
            except fl.FrostlineError as error:
                outcome = "refused" if all(error.parts().values()) else "an empty part"
            except Exception as error:
                outcome = f"raw {type(error).__name__}"
            if time.process_time() - started > _LIMIT_S:
                outcome = "slow"
            if _peak() - before > _LIMIT_BYTES:
                outcome = "large"
            if opened:
                outcome = f"opened {opened.pop()}"
                opened.clear()
            if outcome not in ("refused", "read", "passed over"):
                bad += 1
                print(f"case {at} of seed {seed}: {outcome}", flush=True)
            found[f"{make.__name__.strip('_')} {outcome}"] += 1
            path.unlink(missing_ok=True)
    print(f"hostile files: {at:,} cases, {_told(found)}; {bad} broke the law", flush=True)
    return bad


def _peak() -> int:
    """The most bytes of memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _seeds(root: Path) -> tuple[Path, dict[str, Any], bytes]:
    """(an empty folder of a recipe, a manifest, a shard) of a real fill."""
    fl.FeatureCache(root / "real").fill(Wide(), Samples(range(2)), progress=False)
    (folder,) = [path for path in (root / "real").iterdir() if path.is_dir()]
    manifest = json.loads(max((folder / "manifests").iterdir()).read_text())
    shard = max((folder / "shards").iterdir(), key=lambda path: path.stat().st_size).read_bytes()
    own = root / "hostile" / folder.name
    for kind in ("manifests", "shards"):
        (own / kind).mkdir(parents=True)
    shutil.rmtree(root / "real")
    return own, manifest, shard


@contextmanager
def _limited(folder: Path) -> Generator[set[str]]:
    """Files outside of the folder that are opened inside."""
    opened: set[str] = set()
    state = {"is_on": True}

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if state["is_on"] and event in ("open", "os.listdir", "os.rename", "os.remove", "os.link", "os.mkdir"):
            path = arguments[0]
            text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
            is_code = text.endswith((".py", ".pyc", ".so")) or "/lib/python" in text  # a module that is imported late
            is_kernels = text == "/proc/self/mountinfo"  # which file system the folder is on
            if text.startswith("/") and not text.startswith(str(folder)) and not (is_code or is_kernels):
                opened.add(text)

    sys.addaudithook(audit)  # there is no way to take it off again
    try:
        yield opened
    finally:
        state["is_on"] = False


def _manifest(folder: Path, chance: random.Random, manifest: dict[str, Any], shard: bytes) -> Path:
    """A file that is no good manifest, with the digest that belongs to it where it can have one."""
    del shard
    whole = json.loads(json.dumps(manifest))
    for _ in range(chance.randint(1, 3)):
        _change(whole.get("content") if chance.random() < 0.85 else whole, chance)
    if isinstance(whole.get("content"), dict) and chance.random() < 0.9:
        try:
            whole["digest"] = hashlib.sha256(json.dumps(whole["content"], sort_keys=True).encode()).hexdigest()
        except (ValueError, UnicodeError):
            whole["digest"] = ""
    path = folder / "manifests" / f"00000001-{chance.getrandbits(64):016x}.json"
    path.write_bytes(_odd_bytes(_text(whole), chance))
    return path


def _shard(folder: Path, chance: random.Random, manifest: dict[str, Any], shard: bytes) -> Path:
    """A file that is no good shard, under the name that its content asks for."""
    del manifest
    length = int.from_bytes(shard[:8], "little")
    header, rest = json.loads(shard[8 : 8 + length]), shard[8 + length :][: chance.choice([0, 7, 200, 2**15])]
    for _ in range(chance.randint(1, 3)):
        _change(header, chance)
    text = _odd_bytes(_text(header), chance)
    size = chance.choice(
        [len(text)] * 8 + [0, 1, 2**20, 2**31, 2**63, 2**64 - 1, len(text) - 1, len(text) + len(rest) + 1]
    )
    data = max(0, size).to_bytes(8, "little") + text + rest
    data = data[: chance.choice([len(data)] * 9 + [chance.randrange(len(data) + 1)])]
    path = folder / "shards" / f"{hashlib.sha256(data).hexdigest()}.safetensors"
    path.write_bytes(data)
    return path


def _change(value: Any, chance: random.Random) -> None:
    """Change something in a mapping or list: another value, a key that goes, a list that grows."""
    while isinstance(value, (dict, list)) and value:
        key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        if isinstance(value[key], (dict, list)) and value[key] and chance.random() < 0.7:
            value = value[key]
            continue
        what = chance.random()
        if what < 0.1:
            del value[key]
        elif what < 0.2 and isinstance(value, list):
            value += [_word(chance) for _ in range(chance.choice([1, 2, 300]))]
        elif what < 0.3 and isinstance(value, dict):
            value[str(_word(chance))[:99]] = copy.deepcopy(value[key])
        elif what < 0.45 and isinstance(value[key], int):
            value[key] += chance.choice([-1, 1, 8, 2**20, 2**40, -(2**33)])
        else:
            value[key] = _word(chance)
        return


def _word(chance: random.Random) -> Any:
    return copy.deepcopy(chance.choice(_WORDS))


def _text(value: Any) -> str:
    try:
        return json.dumps(value)
    except ValueError:  # a number of too many digits
        return "{}"


def _odd_bytes(text: str, chance: random.Random) -> bytes:
    """The text, at times cut, doubled, nested or with a byte changed."""
    data = text.encode(errors="surrogatepass")
    what = chance.random()
    if what < 0.05:
        return data[: chance.randrange(len(data) + 1)]
    if what < 0.08:
        return b"[" * chance.choice([5, 2000, 200_000]) + data
    if what < 0.11:
        return data[:-1] + b"," + data[1:]  # every key twice
    if what < 0.13:
        return b'{"a":' * 3000 + data + b"}" * 3000
    if what < 0.2 and data:
        at = chance.randrange(len(data))
        return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
    return data


def _read_manifests(folder: Path, path: Path) -> str:
    del path
    notes = read_contents(folder / "manifests").notes
    fl.FeatureCache(folder.parent).stats()
    return "passed over" if notes else "read"


def _read_shard(folder: Path, path: Path) -> str:
    tensors = Shards(folder / "shards").open(path.name)
    stored = {"low": (torch.float32, (_WIDTH,))}
    check_rows(path, tensors, stored, 2)
    return f"{'read'}{'' if all(tensors[name].numel() >= 0 for name in tensors) else ' in part'}"
