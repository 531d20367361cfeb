import struct

import numpy as np
import pytest

from frostline.core.errors import PortError
from frostline.porting.readers.protobuf import MAX_DEPTH, MAX_FIELDS, Message, Span, Wire, beginning
from frostline.porting.readers.weight_file import WeightFile
from helpers_porting_wire import block, fixed32, float32, number, packed, varint


@pytest.fixture
def parse(tmp_path):
    files = []

    def call(data):
        path = tmp_path / "message"
        path.write_bytes(data)
        files.append(WeightFile(path))
        return Wire(files[-1]).message()

    yield call
    for file in files:
        file.close()


def test_every_kind_of_field(parse):
    message = parse(
        number(1, -3) + block(2, "névé") + float32(3, 1.5) + fixed32(4, 7) + packed(5, [1, 300, -1]) + number(5, 9)
        + block(6, number(1, 8)) + block(6, number(1, 9)) + block(200, b"raw")
    )  # fmt: skip
    assert message.integer(1) == -3
    assert message.text(2) == "névé"
    assert message.float32(3) == 1.5
    assert message.fixed32(4) == 7
    assert message.integers(5) == [1, 300, -1, 9]
    assert message.varints(5).tolist() == [1, 300, 2**64 - 1, 9]
    assert [inner.integer(1) for inner in message.messages(6)] == [8, 9]
    assert message.span(200).bytes() == b"raw"
    assert message.numbers() == {1, 2, 3, 4, 5, 6, 200}


def test_what_is_not_there_has_its_default(parse):
    message = parse(b"")
    assert (message.integer(1), message.integer(1, 5), message.text(1), message.float32(1, 2.5)) == (0, 5, "", 2.5)
    assert (message.span(1), message.message(1), message.integers(1), message.fixed(1, "<f4")) == (None, None, [], b"")
    assert len(message.varints(1)) == 0
    assert not message.has(1)


def test_floats_packed_and_not(parse):
    values = np.array([1.5, -2.0, 3.25])
    one_by_one = b"".join(float32(1, value) for value in values)
    assert parse(one_by_one).fixed(1, "<f4") == values.astype("<f4").tobytes()
    assert parse(block(1, values.astype("<f8").tobytes())).fixed(1, "<f8") == values.astype("<f8").tobytes()


def test_a_message_inside_of_bytes_in_memory(parse):
    outer = parse(block(1, number(1, 4)))
    inner = Wire(outer.wire.file, outer.span(1).bytes()).message()
    assert inner.integer(1) == 4


def test_fields_beyond_one_window(parse):
    message = parse(b"".join(block(1, bytes([k]) * 50_000) for k in range(5)) + number(2, 3))
    assert [span.bytes()[0] for span in message.spans(1)] == [0, 1, 2, 3, 4]
    assert message.integer(2) == 3


HOSTILE = {
    "a group": varint(1 << 3 | 3) + varint(1 << 3 | 4),
    "an unknown wire type": varint(1 << 3 | 6),
    "field 0": number(0, 1),
    "a length past the end": varint(1 << 3 | 2) + varint(10) + b"abc",
    "a length of 2^63": varint(1 << 3 | 2) + varint(1 << 63),
    "a number that does not end": varint(1 << 3) + b"\xff" * 10 + b"\x01",
    "a number of 70 bits": varint(1 << 3) + b"\xff" * 9 + b"\x7f",
    "a cut number": varint(1 << 3) + b"\xff",
    "a cut fixed32": varint(1 << 3 | 5) + b"abc",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_damaged_messages_are_refused(parse, name):
    with pytest.raises(PortError, match="damaged"):
        parse(HOSTILE[name])


def test_fields_that_may_stand_once(parse):
    for data in (number(1, 1) * 2, block(1, b"a") * 2, fixed32(1, 1) * 2):
        message = parse(data)
        for get in (message.integer, message.text, message.message, message.fixed32):
            with pytest.raises(PortError, match="damaged"):
                get(1)


def test_fields_of_another_type(parse):
    message = parse(number(1, 1) + block(2, b"\xff\xfe") + packed(3, [1]) + block(4, b"\x80" * 3) + block(5, b"abc"))
    for get, field in (
        (message.span, 1), (message.text, 2), (message.integer, 3), (message.integers, 4), (message.varints, 4),
        (lambda field: message.fixed(field, "<f4"), 5), (lambda field: message.fixed(field, "<f4"), 1),
        (message.fixed32, 1),
    ):  # fmt: skip
        with pytest.raises(PortError, match="damaged"):
            get(field)


def test_depth_is_bounded(parse):
    data = b""
    for _ in range(MAX_DEPTH + 2):
        data = block(1, data)
    message = parse(data)
    with pytest.raises(PortError, match="nested more than 64 levels deep"):
        while message is not None:
            message = message.message(1)


def test_the_beginning_of_what_is_cut(parse):
    whole = number(1, 8) + block(2, b"abcdef") + fixed32(3, 1) + number(4, 1)
    message = parse(b"")
    for size in range(len(whole)):
        found = beginning(Wire(message.wire.file, whole[:size]).span())
        assert [field for field, _ in found] == [1, 2][: (size >= 2) + (size >= 4)]
    inner = beginning(Span(Wire(message.wire.file, b"\x08"), 0, 100))  # a field that ends beyond its file
    assert inner == []


def test_the_number_of_fields_is_bounded(parse, monkeypatch):
    monkeypatch.setattr("frostline.porting.readers.protobuf.MAX_FIELDS", 100)
    assert MAX_FIELDS >= 100_000
    with pytest.raises(PortError, match="too many fields"):
        parse(number(1, 1) * 101)
    with pytest.raises(PortError, match="too many fields"):
        parse(packed(1, range(101))).integers(1)
    assert len(parse(packed(1, range(101))).varints(1)) == 101  # many numbers are one array


def test_a_text_is_bounded(parse):
    with pytest.raises(PortError, match="damaged"):
        parse(block(1, b"a" * (1 << 21))).text(1)


def test_unpacked_numbers_agree_with_one_at_a_time(parse):
    values = [int(v) for v in np.random.default_rng(0).integers(0, 2**63, 500)] + [0, 127, 128, 2**64 - 1]
    message = parse(packed(1, values))
    assert isinstance(message, Message)
    assert message.varints(1).tolist() == [value % 2**64 for value in values]
    assert struct.pack("<q", message.integers(1)[-1]) == b"\xff" * 8
