"""A small version of what `python -m exams.reliability --parts bits hostile` runs."""

import random

import torch

import frostline as fl
from exams.reliability import damage


def test_hostile_manifests_and_shards_are_refused_or_read(capsys):
    assert damage.hostile(400, seed=3) == 0
    told = capsys.readouterr().out
    assert "400 cases" in told
    assert "shard refused" in told


def test_that_law_can_fail(monkeypatch, capsys):
    def raising(folder, path):
        raise MemoryError

    monkeypatch.setattr(damage, "_read_shard", raising)
    monkeypatch.setattr(damage, "_read_manifests", lambda folder, path: "read")
    assert damage.hostile(20, seed=3) > 0
    assert "raw MemoryError" in capsys.readouterr().out


def test_a_bit_that_flips_is_noticed_wherever_it_lies(monkeypatch, capsys):
    monkeypatch.setattr(damage, "_WIDTH", 8)  # the exam takes a cache of more than a megabyte, and every bit
    low = fl.FrontierTensor("low", (8,), torch.float32, 32, False)
    monkeypatch.setattr(damage.Wide, "frontier", (low, damage.Wide.frontier[1]))
    monkeypatch.setattr(damage, "_bits_of", lambda path: random.Random(0).sample(range(8 * path.stat().st_size), 40))
    assert damage.flipped_bits(40) == 0
    assert "noticed" in capsys.readouterr().out


def test_that_law_can_fail_too(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    assert damage._flip(tmp_path / "file", 3, lambda: False) == "unseen"
    assert (tmp_path / "file").read_bytes() == b"x"
