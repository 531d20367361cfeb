"""The fuzzer of readers finds what breaks its laws, and a small part of it runs here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from io import BytesIO
from types import SimpleNamespace

import pytest

from exams.fuzz import reader_counts, readers
from exams.fuzz.damage import damaged
from frostline.core.errors import PortError

NUM_CASES = 12
PLACES = readers.entrances()


@pytest.mark.parametrize("fixture", sorted(PLACES))
def test_damaged_files_are_read_or_refused(fixture):
    found = [verdict for _, verdict in readers.verdicts(fixture, 0, NUM_CASES, PLACES[fixture][0]) if verdict]
    assert len(found) == NUM_CASES
    assert set(found) <= {"source", "refused"}, found


def test_every_reader_meets_damaged_files():
    assert {reader for _, reader in PLACES.values()} == set(readers.modules())


def test_files_beside_a_file_are_damaged_too():
    assert PLACES["tensorflow/names.ckpt.data-00000-of-00001"] == ("tensorflow/names.ckpt.index", "tensorflow")
    assert PLACES["orbax/ocdbt/manifest.ocdbt"] == ("orbax/ocdbt/_METADATA", "orbax")
    assert PLACES["plain/network.npz"] == ("plain/network.npz", "npz")


@pytest.mark.parametrize("reader", sorted({reader for _, reader in PLACES.values()}))
def test_intact_files_of_every_reader_are_read(reader):
    found = []
    for fixture in (name for name, place in PLACES.items() if place == (name, reader)):
        with readers.prepared(fixture) as path:
            found.append(readers.examine(path, path.read_bytes()))
    assert "source" in found


def test_damage_follows_from_the_seed_alone(monkeypatch):
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", json.dumps({"layers": [{"name": "a"}, {"name": "b"}]}))
    for original in (b"0123456789" * 10, b'{"a": [1, {"b": 2}]}', buffer.getvalue(), b""):
        made = [damaged(original, [b"abcdef"], f"seed {number}") for number in range(40)]
        with monkeypatch.context() as patch:
            patch.setattr("zipfile.time.time", lambda: 1_800_000_000.0)
            again = [damaged(original, [b"abcdef"], f"seed {number}") for number in range(40)]
        assert made == again
        assert len(set(made)) > (0 if not original else 20)
    inside = [damaged(buffer.getvalue(), [], f"seed {number}") for number in range(40)]
    assert any(zipfile.is_zipfile(BytesIO(content)) and content != buffer.getvalue() for content in inside)


def broken(monkeypatch, tmp_path, read, claims=lambda file: True):
    """What the laws say of a reader."""
    monkeypatch.setattr(readers, "modules", lambda: {"own": SimpleNamespace(claims=claims, read=read, __name__="own")})
    readers.examine(tmp_path / "a", b"content")


def tensor(**changes):
    import torch

    fields = {"name": "a", "shape": (2,), "dtype": "float32", "load": lambda: torch.zeros(2)}
    return SimpleNamespace(**(fields | changes))


def source(*tensors):
    return SimpleNamespace(tensors=tensors)


def refuse(do):
    raise PortError(what="No.", where="here", received="this", do=do)


def open_elsewhere():
    with open("/etc/hostname"):
        return source()


def burn():
    number = 3
    while readers.time.process_time() < until[0]:
        number = number * number % 1_000_003
    return source()


until = [0.0]


@pytest.mark.parametrize(
    "read",
    [
        lambda: None.shape,
        open_elsewhere,
        lambda: os.system("true"),
        lambda: subprocess.run(["true"], check=True) and source(),
        lambda: eval("source()"),
        lambda: __import__("frostline.no_such_module"),
        lambda: source(tensor(), tensor()),
        lambda: source(tensor(shape=(3,))),
        lambda: source(tensor(dtype="int64")),
        lambda: refuse(""),
        burn,
    ],
    ids=["raw", "open", "system", "process", "eval", "import", "twice", "shape", "dtype", "parts", "slow"],
)
def test_broken_laws_are_seen(read, monkeypatch, tmp_path):
    until[0] = readers.time.process_time() + readers.MAX_SECONDS + 0.2
    with pytest.raises((readers.BrokenLawError, AttributeError, ImportError)):
        broken(monkeypatch, tmp_path, lambda file: read())


@pytest.mark.parametrize("read", [lambda: source(tensor()), lambda: refuse("this")])
def test_laws_that_hold_pass(read, monkeypatch, tmp_path):
    broken(monkeypatch, tmp_path, lambda file: read())


def test_a_run_counts_its_cases(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(readers, "entrances", lambda: {"a/b": ("a/b", "npz"), "c/d": ("c/d", "onnx")})
    cases = [(0, "source"), (1, "refused"), (2, "broken: it ended")]
    monkeypatch.setattr(readers, "_batch", lambda fixture, entrance, first, path: [(first + n, v) for n, v in cases])
    monkeypatch.setattr(readers.time, "monotonic", iter([0.0, 0.0, 0.5, 2.0]).__next__)
    assert readers.run(1, None, tmp_path / "counts.json") == 1
    monkeypatch.setattr(readers.time, "monotonic", iter([0.0, 0.0, 2.0]).__next__)
    assert readers.run(1, "npz", tmp_path / "counts.json") == 1
    written = capsys.readouterr().out
    assert "a/b 2 broken: it ended\na" not in written
    assert "a/b 5 broken: it ended\n" in written
    assert "| npz | 1 | 6 | 2 | 2 | 2 | 6 | 2 |\n" in (tmp_path / "counts.md").read_text()
    assert "| onnx | 1 | 3 | 1 | 1 | 1 | 3 | 1 |\n" in written


def test_counts_of_other_versions_stay_in_the_total(monkeypatch, tmp_path):
    reader_counts.Counts(tmp_path / "a.json").add("npz", "a/b", ["source", "broken: so"])
    monkeypatch.setattr(reader_counts, "version", lambda: "another")
    again = reader_counts.Counts(tmp_path / "a.json")
    again.add("npz", "a/b", ["refused"])
    assert again.num_cases("npz", "a/b") == 3
    assert "| npz | 1 | 3 | 1 | 1 | 1 | 1 | 0 |\n" in again.table()


def test_a_worker_that_is_killed_is_a_broken_law(monkeypatch, tmp_path):
    def end(command, check):
        (tmp_path / "log").write_text('0 ""\n0 "source"\n1 ""\n')
        return SimpleNamespace(returncode=-11)

    monkeypatch.setattr(readers.subprocess, "run", end)
    found = readers._batch("a/b", "a/b", 0, tmp_path / "log")
    assert found == [(0, "source"), (1, "broken: the process ended with -11")]


def test_the_command_runs_one_case(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["readers", "--show", "tensorflow/names.ckpt.data-00000-of-00001", "3"])
    assert readers.main() == 0
    assert capsys.readouterr().out in ("source\n", "refused\n")
