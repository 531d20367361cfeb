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

from exams.fuzz import readers
from exams.fuzz.damage import damaged
from frostline.core.errors import PortError

NUM_CASES = 12
# PyTorch warns once in a process that it reads a sparse tensor of compressed rows.
pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
FIXTURES = readers.fixtures()


@pytest.mark.parametrize("fixture", FIXTURES)
def test_damaged_files_are_read_or_refused(fixture):
    found = [verdict for _, verdict in readers.verdicts(fixture, 0, NUM_CASES) if verdict]
    assert len(found) == NUM_CASES
    assert set(found) <= {"source", "refused"}, found


@pytest.mark.parametrize("folder", sorted({name.split("/")[0] for name in FIXTURES}))
def test_intact_files_of_every_folder_are_read(folder):
    found = []
    for fixture in readers.fixtures(folder):
        with readers.prepared(fixture) as path:
            found.append(readers.examine(path, path.read_bytes()))
    assert "source" in found or folder == "snappy"  # its files are parts of files


def test_damage_follows_from_the_seed_alone():
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", json.dumps({"layers": [{"name": "a"}, {"name": "b"}]}))
    for original in (b"0123456789" * 10, b'{"a": [1, {"b": 2}]}', buffer.getvalue(), b""):
        made = [damaged(original, [b"abcdef"], f"seed {number}") for number in range(40)]
        assert made == [damaged(original, [b"abcdef"], f"seed {number}") for number in range(40)]
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
        broken(monkeypatch, tmp_path, lambda file, key: read())


@pytest.mark.parametrize("read", [lambda: source(tensor()), lambda: refuse("this")])
def test_laws_that_hold_pass(read, monkeypatch, tmp_path):
    broken(monkeypatch, tmp_path, lambda file, key: read())


def test_a_run_counts_its_cases(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(readers, "fixtures", lambda only=None: ["a/b"])
    log = {"a/b": [(0, "source"), (1, "refused"), (2, "broken: it ended")]}
    monkeypatch.setattr(readers, "_batch", lambda fixture, first, path: log[fixture])
    monkeypatch.setattr(readers.time, "monotonic", iter([0.0, 0.0, 2.0]).__next__)
    assert readers.run(1, None, tmp_path) == 1
    assert "| a | 3 | 1 | 1 | 1 |" in capsys.readouterr().out
    assert (tmp_path / "broken.txt").read_text() == "a/b 2 broken: it ended\n"


def test_a_worker_that_is_killed_is_a_broken_law(monkeypatch, tmp_path):
    def end(command, check):
        (tmp_path / "log").write_text('0 ""\n0 "source"\n1 ""\n')
        return SimpleNamespace(returncode=-11)

    monkeypatch.setattr(readers.subprocess, "run", end)
    assert readers._batch("a/b", 0, tmp_path / "log") == [(0, "source"), (1, "broken: the process ended with -11")]


def test_the_command_runs_one_case(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["readers", "--show", FIXTURES[0], "3"])
    assert readers.main() == 0
    assert capsys.readouterr().out in ("source\n", "refused\n")
