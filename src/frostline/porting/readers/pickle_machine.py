"""Pickles as data: an interpreter of their opcodes that calls nothing and imports nothing.

A call in the pickle becomes a record (`RecordedCall`) of the name and the arguments. The caller passes the names that
are allowed; a pickle with any other name is refused, and so is every opcode that no framework writes.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, cast

from frostline.porting.readers.pickle_values import Name, Persistent, RecordedCall, Span, kind_of, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from frostline.core.errors import PortError
    from frostline.porting.readers.weight_file import WeightFile

# A tensor takes about 40, and each makes at most one object of about 100 bytes: they bound time and memory.
MAX_OPCODES = 2_000_000
MAX_MARKS = 1_000  # open lists, tuples and dicts
MAX_INTEGER_BYTES = 64  # states of random generators hold integers of 128 bits
MAX_KEY_PARTS = 64  # elements of a tuple that is a dict key
MAX_COPIED = 1 << 25  # values and bytes that opcodes copy from other values
SPAN_BYTES = 4_096  # longer strings and bytes stay in the file until they are loaded
_WINDOW_BYTES = 1 << 16
# Opcodes of protocols 0 and 1, of extensions and external buffers, and of calls that no file of weights needs.
_REFUSED = {
    b"F": "FLOAT", b"I": "INT", b"L": "LONG", b"S": "STRING", b"V": "UNICODE", b"d": "DICT", b"l": "LIST", b"g": "GET",
    b"p": "PUT", b"2": "DUP", b"P": "PERSID", b"i": "INST", b"o": "OBJ", b"\x82": "EXT1", b"\x83": "EXT2",
    b"\x84": "EXT4", b"\x92": "NEWOBJ_EX", b"\x97": "NEXT_BUFFER", b"\x98": "READONLY_BUFFER",
}  # fmt: skip
_LAYOUTS = {layout: struct.Struct(layout) for layout in ("<B", "<H", "<I", "<i", "<Q", "<d", ">d", "<q")}
_ENCODINGS = ("latin1", "latin-1")


class Tape:
    """Sequential access to a range of bytes, through a window.

    Args:
        file: The file, for errors.
        read_at: Returns `count` bytes from an offset.
        start: The start of the range.
        end: The end of the range.
    """

    def __init__(self, file: WeightFile, read_at: Callable[[int, int], bytes], start: int, end: int) -> None:
        self.file, self.read_at, self.at, self.end = file, read_at, start, end
        self._window, self._begin = b"", start

    def take(self, count: int) -> bytes:
        """The next `count` bytes, as one copy in memory.

        Raises:
            PortError: If fewer bytes are left.
        """
        first = self.at - self._begin
        last = first + count
        if last > len(self._window):
            self._check(count)
            self._begin, first, last = self.at, 0, count
            self._window = self.read_at(self.at, min(max(count, _WINDOW_BYTES), self.end - self.at))
        self.at += count
        return self._window[first:last]

    def skip(self, count: int) -> int:
        """Skip the next `count` bytes; returns their offset."""
        self._check(count)
        self.at += count
        return self.at - count

    def line(self) -> bytes:
        """The bytes up to the next line feed, which is skipped."""
        found = bytearray()
        while (byte := self.take(1)) != b"\n":
            found += byte
            if len(found) > SPAN_BYTES:
                raise self.file.damaged("a pickle with a name of more than 4096 bytes")
        return bytes(found)

    def _check(self, count: int) -> None:
        if count > self.end - self.at:
            raise self.file.damaged(
                f"a pickle that ends at byte {self.end}, but needs {count} bytes from byte {self.at}"
            )


def interpret(tape: Tape, allowed: Container[str], do: str, references: list[Persistent] | None = None) -> Any:
    """Interpret one pickle; afterwards `tape` is at the byte after its last opcode.

    Args:
        tape: The bytes, at the first opcode.
        allowed: The full names that the pickle may use, such as `collections.OrderedDict`.
        do: The remedy in the error for a pickle with another name.
        references: Receives every reference to an object outside of the pickle, in order.

    Returns:
        None, booleans, numbers, strings, bytes, lists, tuples, dicts, sets, and values of `pickle_values`. The value
        may contain itself, and its parts may be shared.

    Raises:
        PortError: If the pickle is damaged, has a name that is not allowed, or an unsupported opcode or size.
    """
    return _Machine(tape, allowed, do, references if references is not None else []).run()


class _Machine:
    def __init__(self, tape: Tape, allowed: Container[str], do: str, references: list[Persistent]) -> None:
        self.tape, self.file, self.allowed, self.do, self.references = tape, tape.file, allowed, do, references
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0

    def run(self) -> Any:
        if self.tape.take(1) != b"\x80" or not 2 <= self.tape.take(1)[0] <= 5:
            raise self.refused("a pickle of another protocol than 2 to 5")
        take, steps = self.tape.take, _STEPS
        for _ in range(MAX_OPCODES):
            opcode = take(1)
            step = steps.get(opcode)
            if step is None:
                if opcode == b".":
                    if len(self.stack) != 1 or self.marks:
                        raise self.file.damaged("a pickle that ends with an incomplete value")
                    return self.stack.pop()
                if opcode not in _REFUSED:
                    raise self.file.damaged(f"a pickle with the unknown opcode {opcode!r}")
                raise self.refused(f"the opcode {_REFUSED[opcode]} in a pickle")
            step(self)
        raise self.file.damaged(f"a pickle with more than {MAX_OPCODES} opcodes")

    def refused(self, received: str) -> PortError:
        return self.file.refused(
            "The file of weights contains more than data; nothing in it was executed.", received, self.do
        )

    def copy(self, count: int) -> None:
        """Count the values that an opcode copies: a small pickle can copy a long list a million times."""
        self.copied += count
        if self.copied > MAX_COPIED + self.tape.end:
            raise self.file.damaged(f"a pickle that copies more than {MAX_COPIED} values")

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.file.damaged("a pickle that takes a value from an empty stack")
        return self.stack.pop()

    def top(self, kind: type, opcode: str) -> Any:
        """The top of the stack, which an opcode changes; it must be of the given type."""
        value = self.pop()
        self.stack.append(value)
        if not isinstance(value, kind):
            raise self.refused(f"the opcode {opcode} on {kind_of(value)}")
        return value

    def marked(self) -> list[Any]:
        """The values on the stack above the last mark; they are removed."""
        if not self.marks:
            raise self.file.damaged("a pickle that refers to a mark that was not set")
        first = self.marks.pop()
        values = self.stack[first:]
        del self.stack[first:]
        return values

    def mark(self) -> None:
        if len(self.marks) >= MAX_MARKS:
            raise self.file.damaged(f"a pickle with more than {MAX_MARKS} nested values")
        self.marks.append(len(self.stack))

    def number(self, layout: str) -> Any:
        known = _LAYOUTS[layout]
        return known.unpack(self.tape.take(known.size))[0]

    def push_integer(self, count: int) -> None:
        if not 0 <= count <= MAX_INTEGER_BYTES:
            raise self.file.damaged(f"a pickle with an integer of {count} bytes")
        self.stack.append(int.from_bytes(self.tape.take(count), "little", signed=True))

    def push_bytes(self, count: int, *, is_text: bool) -> None:
        if count > SPAN_BYTES:
            self.stack.append(Span(self.tape.skip(count), count, is_text))
            return
        raw = self.tape.take(count)
        self.stack.append(self.text(raw) if is_text else raw)

    def push_old_text(self, count: int) -> None:
        """A `str` of Python 2, which may contain bytes."""
        if count < 0:
            raise self.file.damaged(f"a pickle with a string of {count} bytes")
        if count > SPAN_BYTES:
            self.stack.append(Span(self.tape.skip(count), count, is_text=False))
            return
        raw = self.tape.take(count)
        self.stack.append(raw.decode("ascii") if raw.isascii() else raw)

    def text(self, raw: bytes) -> str:
        try:
            return raw.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise self.file.damaged("a pickle with a string that is not UTF-8") from error

    def push_frame(self) -> None:
        if self.number("<Q") > self.tape.end - self.tape.at:
            raise self.file.damaged("a pickle with a frame that is longer than the file")

    def put(self, index: int) -> None:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.file.damaged("a pickle that takes a value from an empty stack")
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        try:
            self.stack.append(self.memo[index])
        except KeyError as error:
            raise self.file.damaged("a pickle that refers to a value that was not stored") from error

    def push_tuple(self, count: int) -> None:
        if len(self.stack) - (self.marks[-1] if self.marks else 0) < count:
            raise self.file.damaged("a pickle that takes a value from an empty stack")
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def extend(self, values: list[Any], opcode: str) -> None:
        cast("list[Any]", self.top(list, opcode)).extend(values)

    def update(self, values: list[Any], opcode: str) -> None:
        self.fill(cast("dict[Any, Any]", self.top(dict, opcode)), values)

    def fill(self, into: dict[Any, Any], values: list[Any]) -> None:
        if len(values) % 2:
            raise self.file.damaged("a pickle with a key that has no value")
        self.copy(16 * len(values))
        for key, value in zip(values[::2], values[1::2], strict=True):
            self.check_key(key)
            if key in into:
                raise self.file.damaged(f"a pickle with two entries named {shown(key)}")
            into[key] = value

    def add(self, values: list[Any]) -> None:
        members = cast("set[Any]", self.top(set, "ADDITEMS"))
        for value in values:
            self.check_key(value)
            members.add(value)

    def check_key(self, key: Any) -> None:
        """Refuse keys with a costly hash, such as deeply nested tuples."""
        if type(key) is str:
            return
        waiting, num_parts = [key], 0
        while waiting:
            part, num_parts = waiting.pop(), num_parts + 1
            if isinstance(part, tuple):
                waiting += cast("tuple[Any, ...]", part)[:MAX_KEY_PARTS]
            is_small = not isinstance(part, int) or -(2**63) <= part < 2**64
            is_plain = part is None or isinstance(part, (str, bytes, int, float, tuple, Name, RecordedCall))
            if num_parts > MAX_KEY_PARTS or not is_small or not is_plain:
                raise self.refused(f"an unsupported dict key: {kind_of(part)}")
        self.copy(16 * num_parts)

    def push_frozenset(self) -> None:
        values = self.marked()
        for value in values:
            self.check_key(value)
        self.stack.append(frozenset(values))

    def push_name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise self.file.damaged("a pickle with a name that is not a string")
        whole = f"{module}.{name}"
        if whole not in self.allowed:
            raise self.refused(f"{whole[:200]}, which was not called")
        self.stack.append(Name(whole))

    def push_line_name(self) -> None:
        self.push_name(self.text(self.tape.line()), self.text(self.tape.line()))

    def push_stack_name(self) -> None:
        name = self.pop()
        self.push_name(self.pop(), name)

    def make(self, opcode: str) -> None:
        arguments, made = self.pop(), self.pop()
        if not isinstance(made, Name) or not isinstance(arguments, tuple):
            raise self.refused(f"the opcode {opcode} on {kind_of(made)}")
        self.stack.append(self.value(made.text, cast("tuple[Any, ...]", arguments)))

    def value(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """The result of a call: a plain dict or bytes for a few known names, otherwise the record of the call."""
        if name == "_codecs.encode" and len(arguments) == 2 and arguments[1] in _ENCODINGS:
            return self.encoded(arguments[0])
        if name in ("builtins.bytes", "__builtin__.bytes") and not arguments:
            return b""
        if name in ("collections.OrderedDict", "collections.defaultdict"):
            made: dict[Any, Any] = {}
            if arguments and isinstance(arguments[0], list):  # Python 2 writes a list of pairs
                for pair in cast("list[Any]", arguments[0]):
                    if not isinstance(pair, (list, tuple)) or len(cast("list[Any]", pair)) != 2:
                        raise self.file.damaged("a pickle with an OrderedDict whose items are not pairs")
                    self.fill(made, list(cast("list[Any]", pair)))
            return made
        return RecordedCall(name, arguments)

    def encoded(self, text: Any) -> bytes | Span:
        if isinstance(text, Span) and text.is_text:
            return text
        try:
            self.copy(len(cast("str", text)))
            return cast("str", text).encode("latin-1")
        except (UnicodeEncodeError, AttributeError, TypeError) as error:
            raise self.file.damaged("a pickle with bytes that are written as a string and are not Latin-1") from error

    def refer(self) -> None:
        self.references.append(Persistent(self.pop()))
        self.stack.append(self.references[-1])

    def build(self) -> None:
        state, target = self.pop(), self.pop()
        if isinstance(target, RecordedCall) and target.state is None:
            target.state = state
        elif not isinstance(target, dict):  # attributes of a dict, such as the versions in a state dict
            raise self.refused(f"the opcode BUILD on {kind_of(target)}")
        self.stack.append(target)


_STEPS: dict[bytes, Callable[[_Machine], object]] = {
    b"\x95": _Machine.push_frame,
    b"(": _Machine.mark,
    b"0": lambda m: m.marked() if m.marks and m.marks[-1] == len(m.stack) else m.pop(),
    b"1": _Machine.marked,
    b"N": lambda m: m.stack.append(None),
    b"\x88": lambda m: m.stack.append(True),
    b"\x89": lambda m: m.stack.append(False),
    b"J": lambda m: m.stack.append(m.number("<i")),
    b"K": lambda m: m.stack.append(m.tape.take(1)[0]),
    b"M": lambda m: m.stack.append(m.number("<H")),
    b"G": lambda m: m.stack.append(m.number(">d")),
    b"\x8a": lambda m: m.push_integer(m.number("<B")),
    b"\x8b": lambda m: m.push_integer(m.number("<i")),
    b"X": lambda m: m.push_bytes(m.number("<I"), is_text=True),
    b"\x8c": lambda m: m.push_bytes(m.number("<B"), is_text=True),
    b"\x8d": lambda m: m.push_bytes(m.number("<Q"), is_text=True),
    b"B": lambda m: m.push_bytes(m.number("<I"), is_text=False),
    b"C": lambda m: m.push_bytes(m.number("<B"), is_text=False),
    b"\x8e": lambda m: m.push_bytes(m.number("<Q"), is_text=False),
    b"\x96": lambda m: m.push_bytes(m.number("<Q"), is_text=False),
    b"U": lambda m: m.push_old_text(m.number("<B")),
    b"T": lambda m: m.push_old_text(m.number("<i")),
    b"]": lambda m: m.stack.append([]),
    b"}": lambda m: m.stack.append({}),
    b")": lambda m: m.stack.append(()),
    b"\x8f": lambda m: m.stack.append(set()),
    b"a": lambda m: m.extend([m.pop()], "APPEND"),
    b"e": lambda m: m.extend(m.marked(), "APPENDS"),
    b"s": lambda m: m.update([m.pop(), m.pop()][::-1], "SETITEM"),
    b"u": lambda m: m.update(m.marked(), "SETITEMS"),
    b"\x90": lambda m: m.add(m.marked()),
    b"\x91": _Machine.push_frozenset,
    b"t": lambda m: m.stack.append(tuple(m.marked())),
    b"\x85": lambda m: m.push_tuple(1),
    b"\x86": lambda m: m.push_tuple(2),
    b"\x87": lambda m: m.push_tuple(3),
    b"h": lambda m: m.get(m.tape.take(1)[0]),
    b"j": lambda m: m.get(m.number("<I")),
    b"q": lambda m: m.put(m.tape.take(1)[0]),
    b"r": lambda m: m.put(m.number("<I")),
    b"\x94": lambda m: m.put(len(m.memo)),
    b"c": _Machine.push_line_name,
    b"\x93": _Machine.push_stack_name,
    b"R": lambda m: m.make("REDUCE"),
    b"\x81": lambda m: m.make("NEWOBJ"),
    b"b": _Machine.build,
    b"Q": _Machine.refer,
}
