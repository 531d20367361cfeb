import json
import math

import pytest

import frostline as fl
from frostline.health.streaming import JsonLines
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
