"""Damage below lengths and checksums: what surrounds it fits again."""

import random
from pathlib import Path

from exams.fuzz.sealed import in_message, in_table
from frostline.porting.readers.leveldb import table
from frostline.porting.readers.protobuf import Wire
from frostline.porting.readers.weight_file import WeightFile

FILES = Path(__file__).parents[1] / "porting" / "files"


def read(path, content, how):
    path.write_bytes(content)
    with WeightFile(path) as file:
        return how(file)


def test_a_table_is_sealed_again(tmp_path):
    whole = (FILES / "tensorflow" / "names.ckpt.index").read_bytes()
    before = read(tmp_path / "a", whole, table)
    changed = [in_table(whole, lambda part: part + b"x", random.Random(seed)) for seed in range(20)]
    after = [read(tmp_path / "a", content, table) for content in changed if content is not None]
    assert len(after) == 20
    assert all(rows != before for rows in after)
    assert in_table(b"no table", lambda part: part, random.Random(0)) is None


def test_lengths_around_the_damage_fit(tmp_path):
    whole = (FILES / "onnx" / "nested.onnx").read_bytes()
    changed = [in_message(whole, lambda part: part + b"\x00\x01", random.Random(seed)) for seed in range(20)]
    assert len({content for content in changed if content}) > 10
    top = [read(tmp_path / "a", content, lambda file: Wire(file).span().size) for content in changed if content]
    assert all(size > 0 for size in top)
    assert in_message(b"\xff\xff", lambda part: part, random.Random(0)) is None
