import argparse
import collections
import os
import pickle
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frostline.core.errors import PortError
from frostline.porting.readers import pickle_machine
from frostline.porting.readers.pickle_machine import Tape, interpret
from frostline.porting.readers.pickle_values import Name, Persistent, RecordedCall, Span
from frostline.porting.readers.weight_file import WeightFile

ALLOWED = {
    "argparse.Namespace", "builtins.list", "collections.OrderedDict", "collections.defaultdict", "_codecs.encode",
    "builtins.bytes", "__builtin__.bytes", "m.f",
}  # fmt: skip
LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**200), 2**200) | st.floats(allow_nan=False) | st.text() | st.binary()
)
KEYS = st.text() | st.integers(-(2**63), 2**63) | st.tuples(st.text(), st.integers(0, 9)) | st.none()


def values(*, with_sets):
    def around(inner):
        dicts = st.dictionaries(KEYS, inner)
        plain = st.lists(inner) | st.lists(inner).map(tuple) | dicts | dicts.map(collections.OrderedDict)
        return plain | st.sets(KEYS) | st.frozensets(KEYS) if with_sets else plain

    return st.recursive(LEAVES, around, max_leaves=20)


def run(raw, allowed=ALLOWED):
    """The value of a pickle, which lies in a file behind other bytes."""
    path = Path(os.environ["FROSTLINE_PICKLE"])
    path.write_bytes(b"before" + raw)
    with WeightFile(path) as file:
        tape = Tape(file, file.read_at, 6, file.size)
        value = interpret(tape, allowed, "save the tensors alone.")
        assert tape.at == file.size
        return value


@pytest.fixture(autouse=True, scope="module")
def _place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FROSTLINE_PICKLE", str(tmp_path_factory.mktemp("pickles") / "a.pkl"))
        yield


def refused(raw, match):
    with pytest.raises(PortError, match=match) as caught:
        run(raw)
    return caught.value.received


@settings(max_examples=40)
@given(values(with_sets=True), st.sampled_from([4, 5]))
def test_plain_values_are_what_pickle_makes_of_them(value, protocol):
    assert run(pickle.dumps(value, protocol)) == value


@settings(max_examples=40)
@given(values(with_sets=False), st.sampled_from([2, 3]))
def test_so_they_are_in_older_protocols(value, protocol):
    assert run(pickle.dumps(value, protocol)) == value


def test_a_value_may_contain_itself():
    value = []
    value.append((value, {"a": value}))
    found = run(pickle.dumps(value))
    assert found[0][0] is found
    assert found[0][1]["a"] is found


def test_calls_are_written_down_and_not_made():
    found = run(pickle.dumps({"args": argparse.Namespace(lr=1)}))
    assert isinstance(found["args"], RecordedCall)
    assert (found["args"].name, found["args"].arguments, found["args"].state) == ("argparse.Namespace", (), {"lr": 1})
    assert run(b"\x80\x02cm\nf\nK\x05\x85R.").arguments == (5,)
    assert run(b"\x80\x02cm\nf\n.") == Name("m.f")
    assert run(b"\x80\x02K\x07Q.") == Persistent(7)
    assert run(pickle.dumps(collections.defaultdict(list, a=[1]))) == {"a": [1]}


def test_long_bytes_stay_in_the_file():
    raw = bytes(range(256)) * 32
    whole = pickle.dumps([raw, "a" * 5000], 4)
    assert run(whole) == [
        Span(6 + whole.index(raw), len(raw), is_text=False), Span(6 + whole.index(b"aaaa"), 5000, is_text=True)
    ]  # fmt: skip
    (span,) = run(pickle.dumps([raw], 2))  # one character for a byte
    assert span.is_text
    assert whole[0:1] + raw == b"\x80" + Path(os.environ["FROSTLINE_PICKLE"]).read_bytes()[
        span.start : span.start + span.size
    ].decode().encode("latin-1")
    assert run(b"\x80\x02T" + struct.pack("<i", 5000) + b"a" * 5000 + b".").size == 5000


def test_pickles_of_python_2():
    assert run(b"\x80\x02ccollections\nOrderedDict\n](](U\x01aK\x01ee\x85R.") == {"a": 1}
    assert run(b"\x80\x02T\x02\0\0\0\xffa.") == b"\xffa"


class System:
    def __reduce__(self):
        return (os.mkdir, ("frostline-must-not-make-this",))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_name_that_is_not_known_is_refused_by_name(protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    received = refused(pickle.dumps({"a": 1, "b": System()}, protocol), "contains more than data")
    assert received in ("posix.mkdir, which was not called", "nt.mkdir, which was not called")
    assert not list(tmp_path.iterdir())


def test_nothing_of_a_pickle_is_imported_or_called():
    events = []
    sys.addaudithook(lambda name, given: events.append(name) if name in watched else None)
    watched = {"import", "pickle.find_class", "exec", "compile", "os.system", "subprocess.Popen"}
    run(pickle.dumps(argparse.Namespace(lr=1)))
    refused(b"\x80\x02cantigravity\nfly\n.", "contains more than data")
    watched.clear()
    assert events == []
    assert "antigravity" not in sys.modules


NAMED = [
    (b"0cos\nsystem\n.", "protocol"), (b"(lp0\n.", "protocol"), (b"\x80\x01].", "protocol"),
    (b"\x80\x06].", "protocol"),
    (b"\x80\x02(cm\nf\no.", "OBJ"), (b"\x80\x02(im\nf\n.", "INST"), (b"\x80\x02cm\nf\n)}\x92.", "NEWOBJ_EX"),
    (b"\x80\x02\x82\x01.", "EXT1"), (b"\x80\x02\x83\x01\0.", "EXT2"), (b"\x80\x02\x84\x01\0\0\0.", "EXT4"),
    (b"\x80\x02Pa\n.", "PERSID"), (b"\x80\x05\x97.", "NEXT_BUFFER"), (b"\x80\x05\x98.", "READONLY_BUFFER"),
    (b"\x80\x02]2.", "DUP"), (b"\x80\x02I1\n.", "INT"), (b"\x80\x02V1\n.", "UNICODE"), (b"\x80\x02g1\n.", "GET"),
    (b"\x80\x02]K\x01K\x02s.", "SETITEM on a list"), (b"\x80\x02K\x00K\x01K\x02s.", "SETITEM on a int"),
    (b"\x80\x02cm\nf\n)R(K\x01K\x02u.", "SETITEMS on the result of a call"), (b"\x80\x02}K\x01a.", "APPEND on a dict"),
    (b"\x80\x02)(K\x01e.", "APPENDS on a tuple"), (b"\x80\x04](K\x01\x90.", "ADDITEMS on a list"),
    (b"\x80\x02]}b.", "BUILD on a list"), (b"\x80\x02cm\nf\n}b.", "BUILD on a name"),
    (b"\x80\x02cm\nf\n)R}b}b.", "BUILD on the result of a call"), (b"\x80\x02])R.", "REDUCE on a list"),
    (b"\x80\x02cm\nf\n)R)R.", "REDUCE on the result of a call"), (b"\x80\x02cm\nf\n]\x81.", "NEWOBJ on a name"),
    (b"\x80\x02}]K\x01s.", "an unsupported dict key"),
    (b"\x80\x02}" + b"\x8a\x09" + b"\1" * 9 + b"K\x01s.", "an unsupported dict key"),
    (b"\x80\x02}(" + b"K\x01" * 65 + b"tK\x01s.", "an unsupported dict key"),
    (b"\x80\x02})" + b"\x85" * 100_000 + b"K\x01s.", "an unsupported dict key"),
    (b"\x80\x04(]\x91.", "an unsupported dict key"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "received"), NAMED)
def test_what_no_framework_writes_is_refused_by_name(raw, received):
    assert received in refused(raw, "contains more than data")


DAMAGED = [
    b"\x80\x02", b"\x80\x02.", b"\x80\x02]].", b"\x80\x02(.", b"\x80\x02]\xff.", b"\x80\x02a.", b"\x80\x02(]a.",
    b"\x80\x02e.", b"\x80\x02t.", b"\x80\x02\x85.", b"\x80\x02h\x01.", b"\x80\x02q\x01.", b"\x80\x02R.",
    b"\x80\x02X\xff\xff\xff\xffabc.", b"\x80\x04\x8e" + b"\xff" * 8 + b"abc.", b"\x80\x02X\1\0\0\0\xff.",
    b"\x80\x04\x95" + b"\xff" * 8 + b".", b"\x80\x02\x8b\xff\xff\xff\x7f.", b"\x80\x02\x8b\xff\xff\xff\xff.",
    b"\x80\x02\x8a\xff" + b"\1" * 255 + b".", b"\x80\x02T\xff\xff\xff\xff.", b"\x80\x02" + b"(" * 2000 + b".",
    b"\x80\x02}(K\x01u.", b"\x80\x02}(K\x01K\x01K\x01K\x02u.", b"\x80\x02c" + b"a" * 9000, b"\x80\x04]]\x93.",
    b"\x80\x02c_codecs\nencode\nX\2\0\0\0\xc4\x80X\6\0\0\0latin1\x86R.",
    b"\x80\x02c_codecs\nencode\n]X\6\0\0\0latin1\x86R.",
    b"\x80\x02ccollections\nOrderedDict\n](K\x01e\x85R.",
]  # fmt: skip


@pytest.mark.parametrize("raw", DAMAGED)
def test_damaged_pickles(raw):
    refused(raw, "damaged")


def test_a_payload_before_the_error_does_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(b"\x80\x02cposix\nsystem\nX\x0b\0\0\0touch tracks\x85R\xff", "contains more than data")
    assert not list(tmp_path.iterdir())


def test_the_number_of_opcodes_is_bounded(monkeypatch):
    monkeypatch.setattr(pickle_machine, "MAX_OPCODES", 1000)
    assert "1000 opcodes" in refused(b"\x80\x02" + b"N0" * 1000 + b"N.", "damaged")


def test_values_deep_inside_of_each_other_are_no_recursion():
    assert run(b"\x80\x02)" + b"\x85" * 200_000 + b".") is not None
    assert run(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".") is not None


def test_the_state_of_numpy_generators_is_read():
    state = np.random.default_rng(0).bit_generator.state
    assert run(pickle.dumps(state)) == state


@settings(max_examples=40)
@given(st.binary(max_size=60))
def test_random_bytes_raise_nothing_else(raw):
    for start in (b"", b"\x80\x02", b"\x80\x04"):
        try:
            run(start + raw + b".")
        except PortError as error:
            assert error.do
        except AssertionError:
            pass  # the pickle ended earlier
