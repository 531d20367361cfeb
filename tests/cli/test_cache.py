import json
import os
import pty
import subprocess
import sys

import pytest

from frostline.caching import FeatureCache
from helpers_caching import fill
from helpers_commands import MODEL, run


def test_cache_commands(tmp_path, arrays):
    run("fit", arrays, "--model", MODEL, "--epochs", 1, "--out", tmp_path / "o")
    cache = tmp_path / "o" / "cache"
    assert json.loads(run("cache", "ls", "--cache", cache, "--json").stdout)["entries"][0]["rows"] == 40
    assert "Every shard" in run("cache", "verify", "--cache", cache).stdout
    forget = ("cache", "forget", arrays, "--model", MODEL, "--cache", cache)
    assert "add --yes" in run(*forget, code=1).stderr
    assert json.loads(run(*forget, "--yes", "--json").stdout) == {"deleted_rows": 40}
    run("fit", arrays, "--model", MODEL, "--epochs", 1, "--out", tmp_path / "o", "--overwrite")
    assert "500MB" in run("cache", "prune", "--cache", cache, "--max-bytes", "much", "--yes", code=1).stderr
    pruned = run("cache", "prune", "--cache", cache, "--max-bytes", "1GB", "--unused-days", 3, "--yes", "--json")
    assert json.loads(pruned.stdout)["evicted"] == []
    shard = max(cache.glob("*/shards/*"), key=lambda path: path.stat().st_size)
    shard.write_bytes(b"x")
    assert "1 bytes" in run("cache", "verify", "--cache", cache, code=1).stdout
    assert "No row of these samples is stored" in run(*forget, "--yes").stdout
    assert "freed" in run("cache", "purge", "--cache", cache, "--yes").stdout
    assert json.loads(run("cache", "ls", "--cache", cache, "--json").stdout) == {"entries": []}


def test_a_cache_that_is_not_there_or_holds_nothing_says_so(tmp_path):
    for command in ("ls", "verify", "purge", "prune"):
        assert "There is no cache at this path" in run("cache", command, "--cache", tmp_path / "x", code=1).stderr
    assert run("cache", "ls", "--cache", tmp_path).stdout == f"No features are stored in {tmp_path}.\n"


def test_features_are_not_deleted_unasked_without_a_terminal(tmp_path):
    fill(tmp_path)
    error = run("cache", "purge", "--cache", tmp_path, code=1).stderr
    assert "Deleting stored features needs a confirmation" in error
    assert "add --yes" in error
    assert len(FeatureCache(tmp_path).entries()) == 1


@pytest.mark.parametrize(("answer", "code", "num_left"), [("n", 1, 1), ("y", 0, 0)])
def test_a_person_is_asked_before_features_are_deleted(tmp_path, answer, code, num_left):
    """At a terminal; a script is not asked."""
    fill(tmp_path)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "frostline", "cache", "purge", "--cache", str(tmp_path)]
    process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    os.write(ours, f"{answer}\n".encode())
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert "Delete the stored features" in out
    assert process.returncode == code
    assert len(FeatureCache(tmp_path).entries()) == num_left


def test_a_cache_under_a_url(tmp_path, arrays, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    url = f"file://{tmp_path}/store"
    fit = ("fit", arrays, "--model", MODEL, "--epochs", 1, "--cache", url, "--json")
    run(*fit, "--out", tmp_path / "a")
    stored = sorted((tmp_path / "store").glob("*/shards/*"))
    run(*fit, "--out", tmp_path / "b")
    assert sorted((tmp_path / "store").glob("*/shards/*")) == stored
    assert not (tmp_path / "a" / "cache").exists()
    assert json.loads(run("cache", "ls", "--cache", url, "--json").stdout)["entries"][0]["rows"] == 40
    assert "Every shard" in run("cache", "verify", "--cache", url).stdout
    forget = ("cache", "forget", arrays, "--model", MODEL, "--cache", url, "--yes", "--json")
    assert json.loads(run(*forget).stdout) == {"deleted_rows": 40}
    assert json.loads(run("cache", "prune", "--cache", url, "--max-bytes", 0, "--yes", "--json").stdout)["evicted"]
    assert "0.0 MB freed" in run("cache", "purge", "--cache", url, "--yes").stdout
    assert "cannot be used" in run("cache", "ls", "--cache", "nothing://a", code=1).stderr
    refused = run(*fit, "--out", tmp_path / "c", "--no-cache", code=1).stdout
    assert "one place, or in none" in refused


@pytest.mark.parametrize(
    "arguments", [(), ("a.npz", "b.npz", "--model", "m", "--cache", "c"), ("a.npz", "--model", "m")]
)
def test_a_call_with_too_few_or_too_many_arguments_gets_the_whole_right_one(arguments):
    text = " ".join(run("cache", "forget", *arguments, code=2).stderr.replace("│", " ").split())
    assert "cache forget DATA --model MODEL --cache CACHE, each of these once" in text
