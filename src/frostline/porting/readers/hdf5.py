"""A safe subset of HDF5: groups and plain arrays in the file itself, reached by hard links only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.porting.readers import hdf5_records
from frostline.porting.readers.hdf5_arrays import FLOOR_BYTES, MAX_EXPANSION, Array, array_of
from frostline.porting.readers.hdf5_records import SIGNATURE, UNDEFINED_ADDRESS, Attribute, Object, Records
from frostline.porting.readers.tensor_data import MAX_TENSORS, check_names, num_bytes

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

    from frostline.porting.readers.weight_file import WeightFile

__all__ = ["SIGNATURE", "Array", "Hdf5", "walk"]

_MAX_DEPTH = 64
_MAX_OBJECTS = 100_000  # a network of 1,000 layers with the slots of an optimizer has 10,000
# Many strings may refer to the same place, so a small file can declare strings of a large total size.
_MAX_TEXT_BYTES = 1 << 28
_ONCE = (hdf5_records.SPACE, hdf5_records.TYPE, hdf5_records.LAYOUT, hdf5_records.FILTERS)


class Hdf5:
    """The arrays and groups of an HDF5 file.

    Attributes:
        arrays: The arrays by path, in alphabetical order.
        groups: The groups by path; the root has the empty path.
    """

    def __init__(self, records: Records, groups: dict[str, Object], arrays: dict[str, Array]) -> None:
        self.arrays, self.groups = arrays, tuple(groups)
        self._records, self._objects, self._left = records, groups, _MAX_TEXT_BYTES

    def has(self, group: str, name: str) -> bool:
        """Whether a group has an attribute of this name."""
        return group in self._objects and name in self._objects[group].attributes

    def attribute(self, group: str, name: str) -> str | list[str] | None:
        """An attribute of a group, which must be a string or a list of strings; None if there is none of this name.

        Raises:
            PortError: If the attribute is damaged, or of another type.
        """
        if not self.has(group, name):
            return None
        attribute = self._objects[group].attributes[name]
        texts = self._records.texts(name, attribute, self._left)
        self._left -= sum(map(len, texts))
        return texts if attribute.shape != () else texts[0]


def walk(file: WeightFile, raw: io.RawIOBase | io.BytesIO | None = None, *, most: int = MAX_TENSORS) -> Hdf5:
    """Every group and array of an HDF5 file.

    Args:
        file: The file of weights.
        raw: The HDF5 file, if it is a member of an archive.
        most: The largest number of arrays to return.

    Raises:
        PortError: If the file is damaged, or contains links into other files, arrays with external storage, filters
            that are not part of HDF5, or arrays that are far larger than their stored bytes.
    """
    records = Records(file, raw or file)
    arrays: dict[str, Array] = {}
    groups: dict[str, Object] = {}
    for path, found in _objects(records):
        if found.is_group:
            groups[path] = found
        else:
            arrays[path] = array_of(file, records, found, path)
        if len(arrays) >= most:
            break
    check_names(file, [*list(groups)[1:], *arrays])
    total = sum(num_bytes(file, array.shape, array.dtype) for array in arrays.values())
    if total > max(FLOOR_BYTES, MAX_EXPANSION * records.size):
        raise records.damaged(f"arrays of {total} bytes in a file of {records.size} bytes")
    return Hdf5(records, groups, dict(sorted(arrays.items())))


def _objects(records: Records) -> Iterator[tuple[str, Object]]:
    """Every group and array, the root first; an object with two links is refused."""
    seen = {records.root}
    root = _object(records, records.root)
    if not root.is_group:
        raise records.damaged("a root object that is not a group")
    yield "", root
    stack = [(root, "", 0)]
    while stack:
        group, path, depth = stack.pop()
        if depth > _MAX_DEPTH or len(group.links) + len(seen) > _MAX_OBJECTS:
            raise records.damaged(
                f"groups nested more than {_MAX_DEPTH} levels deep, or more than {_MAX_OBJECTS} objects"
            )
        names: set[str] = set()
        for name, address in group.links:
            if address in seen:
                raise records.refused(f"{name!r} is a second link to an object, or part of a cycle")
            if not name or "/" in name or name in names:
                raise records.damaged(f"an object with the name {name[:60]!r}")
            seen.add(address)
            names.add(name)
            found = _object(records, address)
            inner = f"{path}/{name}".lstrip("/")
            if found.is_group:
                stack.append((found, inner, depth + 1))
            elif hdf5_records.LAYOUT not in found.messages:
                raise records.refused(f"{name!r} is neither a group nor an array")
            yield inner, found


def _object(records: Records, address: int) -> Object:
    found = Object({}, {}, [])
    for kind, content in records.messages(address):
        if kind == hdf5_records.ATTRIBUTE:
            name, attribute = _attribute(records, content)
            found.attributes[name] = attribute
        elif kind == hdf5_records.LINK:
            found.links.append(records.link(content))
        elif kind == hdf5_records.TABLE:
            found.links.extend(records.entries(content))
        elif kind in found.messages and kind in _ONCE:
            raise records.damaged("an object with two shapes, types or layouts")
        found.messages[kind] = content
    for kind, width in ((hdf5_records.LINKS, 8), (hdf5_records.ATTRIBUTES, 2)):
        if kind in found.messages:
            _, flags = records.unpack("<2B", found.messages[kind])
            (heap,) = records.unpack("<Q", found.messages[kind], 2 + (width if flags & 1 else 0))
            if heap != UNDEFINED_ADDRESS:
                raise records.newer("an object with links or attributes in dense storage")
    return found


def _attribute(records: Records, content: bytes) -> tuple[str, Attribute]:
    version, flags, *sizes = records.unpack("<2B3H", content)
    if version not in (1, 2, 3) or (version > 1 and flags):
        raise records.refused(f"an attribute of version {version}, or with a shared type")
    at, parts = 9 if version == 3 else 8, list[bytes]()
    for size in sizes:
        parts.append(content[at : at + size])
        at += (size + 7) // 8 * 8 if version == 1 else size
    name = records.text(parts[0].rstrip(b"\0"))
    return name, Attribute(records.type(parts[1]), records.shape(parts[2]), content[at:])
