import errno
import json
import math

import pytest

import frostline as fl
from frostline.diagnosis.monitor.streaming import JsonLines
from helpers_health import record


def test_every_line_is_json_and_what_is_no_number_is_null(tmp_path):
    stream = JsonLines(tmp_path / "health.jsonl")
    stream.write(record(3, norm=math.inf, fc0={"mean": math.nan, "deviation": 1.5}))
    stream.write(record(4))
    lines = (tmp_path / "health.jsonl").read_text().splitlines()  # written at once, not at the end
    stream.close()
    first, second = (json.loads(line, parse_constant=pytest.fail) for line in lines)
    assert first["gradient_norm"] is None
    assert first["layers"] == [{"layer": "fc0", "mean": None, "deviation": 1.5}]
    assert second["step"] == 4


def test_no_file_is_overwritten(tmp_path):
    path = tmp_path / "health.jsonl"
    path.write_text("mine")
    with pytest.raises(fl.CacheError, match="Cannot create"):
        JsonLines(path)
    assert path.read_text() == "mine"


def test_a_run_that_goes_on_keeps_the_records_before_and_counts_from_there(tmp_path):
    path = tmp_path / "health.jsonl"
    first = JsonLines(path, 0)
    first.write(record(3))
    first.close()
    path.write_bytes(path.read_bytes() + b'damaged\n[1]\n{"step": 7}\n{"st')
    stream = JsonLines(path, 7)
    stream.write(record(2))
    stream.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [3, 9]


class FullDisk:
    """A file on a disk that takes so many more bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        taken = self.file.write(bytes(data[: self.room]))
        self.room -= taken
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        return taken

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_full_disk_costs_the_line_that_does_not_fit_and_no_other(tmp_path):
    path = tmp_path / "health.jsonl"
    stream = JsonLines(path)
    stream.write(record(1))
    stream._file = FullDisk(stream._file, room=20)
    with pytest.raises(fl.CacheError, match="Cannot write") as error:
        stream.write(record(2))
    assert "free some space" in error.value.do
    stream.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1]
