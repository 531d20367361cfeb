"""Damage to files of weights: bits, numbers, slices, and what lies inside of archives and JSON, sealed again."""

from __future__ import annotations

import copy
import io
import json
import random
import struct
import zipfile
from typing import TYPE_CHECKING, Any

from .sealed import in_message, in_table

if TYPE_CHECKING:
    from collections.abc import Sequence

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, 10**9)
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 1.5, float("nan"), "", "x", "../x", "/etc/passwd", "a\0b", [],
    {}, [[]], {"class_name": "Lambda"}, "Functional", "float32", "O", [0, 4], [-1], [2**62, 8],
)  # fmt: skip
_MAX_DEEP = 3


def damaged(original: bytes, others: Sequence[bytes], seed: str) -> bytes:
    """A file that was damaged in a way that only the seed decides.

    Args:
        original: The intact file.
        others: Files of the same format, to splice from.
        seed: Any text.
    """
    return _damage(original, others, random.Random(seed), 0)


def _damage(content: bytes, others: Sequence[bytes], draw: random.Random, depth: int) -> bytes:
    if depth < _MAX_DEEP and draw.random() < 0.6:
        inside = _inside(content, others, draw, depth)
        if inside is not None:
            return inside
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        content = draw.choice(_KINDS)(content, others, draw)
    return content


def _inside(content: bytes, others: Sequence[bytes], draw: random.Random, depth: int) -> bytes | None:
    """The damage inside of a container whose checksums and sizes fit again; None if it is no such container."""
    if content.startswith(b"PK\3\4"):
        return _in_archive(content, others, draw, depth)
    if content[8:9] == b"{":
        size = int.from_bytes(content[:8], "little")
        header = _in_json(content[8 : 8 + size], draw)
        return None if header is None else struct.pack("<Q", len(header)) + header + content[8 + size :]
    if content[:1] in (b"{", b"["):
        return _in_json(content, draw)
    return in_table(content, lambda part: _damage(part, others, draw, _MAX_DEEP), draw) or in_message(
        content, lambda part: _damage(part, others, draw, _MAX_DEEP), draw
    )


def _in_archive(content: bytes, others: Sequence[bytes], draw: random.Random, depth: int) -> bytes | None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(info, archive.read(info)) for info in archive.infolist()]
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError):
        return None
    if not members:
        return None
    chosen = draw.randrange(len(members))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, (info, data) in enumerate(members):
            is_chosen = number == chosen
            if is_chosen and draw.random() < 0.05:
                continue
            damaged_data = _damage(data, others, draw, depth + 1) if is_chosen else data
            archive.writestr(zipfile.ZipInfo(info.filename), damaged_data, info.compress_type)  # no time of day
    return buffer.getvalue()


def _in_json(content: bytes, draw: random.Random) -> bytes | None:
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return None
    places = list(_places(tree))
    for _ in range(draw.choice((1, 1, 2, 3))):
        if not places:
            break
        holder, key = draw.choice(places)
        if isinstance(holder, list) and not 0 <= key < len(holder):
            continue
        if isinstance(holder, dict) and key not in holder:
            continue
        _change(holder, key, places, draw)
    text = json.dumps(tree)
    if draw.random() < 0.1 and '": ' in text:  # a name twice, which no tree can hold
        at = text.index('"')
        end = text.index('": ', at)
        text = f"{text[:at]}{text[at : end + 1]}: 1, {text[at:]}"
    return text.encode()


def _change(holder: Any, key: Any, places: list[tuple[Any, Any]], draw: random.Random) -> None:
    kind = draw.randrange(5)
    if kind == 0:
        del holder[key]
    elif kind == 1:
        source, other = draw.choice(places)
        try:
            holder[key] = json.loads(json.dumps(source[other]))
        except (LookupError, ValueError, RecursionError):
            holder[key] = None
    elif kind == 2 and isinstance(holder[key], int):
        holder[key] += draw.choice((-1, 1, 2**32, 2**63))
    else:
        holder[key] = copy.deepcopy(draw.choice(_VALUES))


def _places(tree: Any) -> Any:
    """Every value below a tree, as its holder and its key there."""
    waiting = [tree]
    while waiting:
        holder = waiting.pop()
        pairs = holder.items() if isinstance(holder, dict) else enumerate(holder) if isinstance(holder, list) else ()
        for key, value in list(pairs):
            yield holder, key
            waiting.append(value)


def _flip(content: bytes, _: Sequence[bytes], draw: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8, 64)) if data else 0):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(data)


def _early(content: bytes, _: Sequence[bytes], draw: random.Random) -> bytes:
    """Bits of the first bytes, where headers are."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 2, 4)) if data else 0):
        data[draw.randrange(min(len(data), 512))] = draw.randrange(256)
    return bytes(data)


def _number(content: bytes, _: Sequence[bytes], draw: random.Random) -> bytes:
    width = draw.choice((1, 2, 4, 8))
    if len(content) < width:
        return content
    at = draw.randrange(len(content) - width + 1)
    value = draw.choice(_NUMBERS)
    if draw.random() < 0.5:
        value = int.from_bytes(content[at : at + width], "little") + draw.choice((-8, -1, 1, 8, 256))
    raw = (value % 256**width).to_bytes(width, draw.choice(("little", "big")))
    return content[:at] + raw + content[at + width :]


def _truncate(content: bytes, _: Sequence[bytes], draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _extend(content: bytes, _: Sequence[bytes], draw: random.Random) -> bytes:
    return content + draw.choice((b"\0", b"PK\5\6" + b"\0" * 18, draw.randbytes(draw.randrange(1, 100))))


def _slice(content: bytes, draw: random.Random) -> tuple[int, int]:
    start = draw.randrange(len(content) + 1)
    return start, min(len(content), start + draw.choice((1, 2, 8, 64, 512, 4096)))


def _delete(content: bytes, _: Sequence[bytes], draw: random.Random) -> bytes:
    start, end = _slice(content, draw)
    return content[:start] + content[end:]


def _repeat(content: bytes, _: Sequence[bytes], draw: random.Random) -> bytes:
    start, end = _slice(content, draw)
    return content[:end] + content[start:end] * draw.choice((1, 2, 50)) + content[end:]


def _clear(content: bytes, _: Sequence[bytes], draw: random.Random) -> bytes:
    start, end = _slice(content, draw)
    return content[:start] + draw.choice((b"\0", b"\xff", b"[", b" ")) * (end - start) + content[end:]


def _splice(content: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    other = draw.choice(others) if others else content
    start, end = _slice(other, draw)
    at, until = _slice(content, draw)
    return content[:at] + other[start:end] + content[draw.choice((at, until, at + end - start)) :]


def _swap(content: bytes, _: Sequence[bytes], draw: random.Random) -> bytes:
    """Two places exchange their bytes."""
    width = draw.choice((1, 4, 8, 16, 64))
    if len(content) < 2 * width:
        return content
    first, second = sorted(draw.randrange(len(content) - width + 1) for _ in range(2))
    if second < first + width:
        return content
    one, two = content[first : first + width], content[second : second + width]
    return content[:first] + two + content[first + width : second] + one + content[second + width :]


_KINDS = (_flip, _flip, _early, _number, _number, _truncate, _extend, _delete, _repeat, _clear, _splice, _swap)
