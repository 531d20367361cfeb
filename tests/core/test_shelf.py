import builtins
import hashlib

import fsspec
import pytest

from frostline.core import shelf
from frostline.core.errors import CacheError
from frostline.core.io import Damaged
from frostline.core.shelf import Shelf, is_url

SECRET = "hush-hush-hush"


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A folder in a store in memory; tries follow each other at once."""
    monkeypatch.setattr(shelf, "_wait", lambda seconds: None)
    yield Shelf(f"memory://{tmp_path.name}")
    fsspec.filesystem("memory").store.clear()


def fail(monkeypatch, store, name, *errors):
    """The next calls of this function of the backend raise these; returns what was raised."""
    real, rest = getattr(store._files, name), list(errors)

    def failing(*arguments, **options):
        if rest:
            raise rest.pop(0)
        return real(*arguments, **options)

    monkeypatch.setattr(store._files, name, failing, raising=False)
    return rest


def test_what_is_a_url():
    assert all(map(is_url, ["s3://bucket/a", "memory://a", "file:///a", "simplecache::s3://a", "GS://a"]))
    assert not any(map(is_url, ["features", "/a/b", "C:/a", "C:\\a", "a::b", "s3:/a", b"s3://a", None]))


def test_objects_are_listed_read_created_and_deleted(store, tmp_path):
    assert (store.sizes("one"), store.read("one/a", max_bytes=9), store.size("one/a")) == ({}, None, None)
    assert (store.modified("one/a"), store.delete("one/a")) == (None, False)
    store.create("one/a", b"abc")
    assert store.touch("one/b")
    (tmp_path / "file").write_bytes(b"12345")
    store.put("one/c", tmp_path / "file")
    assert store.sizes("one") == {"a": 3, "b": 6, "c": 5}
    assert (store.read("one/a", max_bytes=3), store.size("one/c")) == (b"abc", 5)
    assert store.modified("one/a") > 1e9
    assert store.delete("one/a")
    assert sorted(store.sizes("one")) == ["b", "c"]


def test_more_bytes_than_expected_are_not_read(store, monkeypatch):
    store.create("a", b"abcd")
    monkeypatch.setattr(store._files, "cat_file", None)
    with pytest.raises(CacheError, match="Cannot read a") as caught:
        store.read("a", max_bytes=3)
    assert "4 bytes" in caught.value.received


@pytest.mark.parametrize("error", [TimeoutError("late"), ConnectionResetError(), RuntimeError("of the backend")])
def test_what_fails_for_a_moment_is_tried_again_and_told_in_the_end(store, monkeypatch, error):
    store.create("a", b"abc")
    fail(monkeypatch, store, "cat_file", error, error)
    assert store.read("a", max_bytes=3) == b"abc"
    rest = fail(monkeypatch, store, "cat_file", *[error] * 99)
    with pytest.raises(CacheError, match="in the remote cache") as caught:
        store.read("a", max_bytes=3)
    assert all(caught.value.parts().values())
    assert len(rest) == 99 - shelf._TRIES


def test_what_is_not_allowed_is_told_at_once(store, monkeypatch):
    rest = fail(monkeypatch, store, "pipe_file", *[PermissionError("no")] * 9)
    assert not store.touch("a")
    assert len(rest) == 8
    with pytest.raises(CacheError, match="Cannot write a") as caught:
        store.create("a", b"abc")
    assert "right to read and write" in caught.value.do


def test_a_torn_object_under_the_name_of_this_content_is_written_anew(store):
    store._files.pipe_file(store._path("a"), b"ab")
    store.create("a", b"abc")
    assert store.read("a", max_bytes=9) == b"abc"


def test_a_store_without_conditional_create_is_written_all_the_same(store, monkeypatch):
    real = store._files.pipe_file
    monkeypatch.setattr(store._files, "pipe_file", lambda path, data: real(path, data))
    store.create("a", b"abc")
    assert store.read("a", max_bytes=9) == b"abc"


def test_an_answer_that_was_lost_is_no_failure(store, monkeypatch):
    real = store._files.pipe_file

    def lost(path, data, **options):
        real(path, data, **options)
        raise TimeoutError("the answer")

    monkeypatch.setattr(store._files, "pipe_file", lost)
    store.create("a", b"abc")


def fetched(store, name, content):
    found = []
    is_there = store.fetch(
        name, hashlib.sha256(content).hexdigest(), lambda parts: found.append(b"".join(parts)), max_bytes=3
    )
    return found[-1] if is_there else None


def test_what_is_fetched_has_its_digest(store, monkeypatch):
    assert fetched(store, "a", b"abc") is None
    store.create("a", b"abc")
    fail(monkeypatch, store, "open", TimeoutError("late"))
    assert fetched(store, "a", b"abc") == b"abc"
    with pytest.raises(Damaged, match="is damaged") as caught:
        fetched(store, "a", b"abd")
    assert caught.value.where == f"{store.url}/a"


def test_an_object_that_is_too_large_is_not_fetched(store, monkeypatch):
    store.create("a", b"abcd")
    monkeypatch.setattr(store._files, "open", None)
    with pytest.raises(CacheError, match="Cannot read a") as caught:
        fetched(store, "a", b"abcd")
    assert "4 bytes" in caught.value.received


def test_an_error_of_the_disk_is_not_one_of_the_store(store):
    store.create("a", b"abc")

    def full(parts):
        list(parts)
        raise CacheError(what="The disk is full.", where="a", received="b", do="c")

    with pytest.raises(CacheError, match="The disk is full"):
        store.fetch("a", hashlib.sha256(b"abc").hexdigest(), full, max_bytes=3)


def test_secrets_are_in_no_error(store, monkeypatch):
    own = Shelf(
        f"memory://user:{SECRET}@host/a?X-Amz-Signature={SECRET}#x", {"secret": SECRET, "nested": {"a": SECRET}}
    )
    assert own.url == "memory://host/a"
    text = f"GET https://host/a?Signature=abc failed: {SECRET}, Authorization: AWS4-abc, password=abcdef"
    for error in (OSError(text), PermissionError(text)):
        monkeypatch.setattr(own._files, "cat_file", None)
        monkeypatch.setattr(own._files, "info", lambda path, error=error: (_ for _ in ()).throw(error))
        with pytest.raises(CacheError) as caught:
            own.read("a", max_bytes=3)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        shown = str(caught.value)
        assert not any(word in shown for word in (SECRET, "AWS4-abc", "abcdef", "Signature=abc")), shown


def test_a_missing_package_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name.split(".")[0] in missing:
            raise ImportError(f"No module named {name!r}")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    missing = {"fsspec"}
    with pytest.raises(CacheError, match="needs the package fsspec") as caught:
        Shelf("memory://a")
    assert "frostline[remote]" in caught.value.do
    missing = {"paramiko"}
    with pytest.raises(CacheError, match="package for this kind of store") as caught:
        Shelf("sftp://host/a")
    assert "paramiko" in caught.value.received


@pytest.mark.parametrize("url", ["nothing-of-that-kind://a", "s3a-b://x"])
def test_an_unknown_kind_of_store_lists_those_that_are_known(url):
    with pytest.raises(CacheError, match="cannot be used") as caught:
        Shelf(url)
    assert "s3" in caught.value.do


def test_folders_of_files_are_made_and_left(tmp_path):
    own = Shelf(f"file://{tmp_path}/store")
    own.create("one/a", b"abc")
    assert (own.sizes(""), own.sizes("one")) == ({"one": own.sizes("")["one"]}, {"a": 3})
    own.leave_folder("one")
    assert own.delete("one/a")
    own.leave_folder("one")
    assert own.sizes("") == {}


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_of_two_objects_of_one_name_the_first_stays(tmp_path, kind):
    shelf = Shelf(f"memory://{tmp_path.name}" if kind == "memory" else f"file://{tmp_path}")
    assert shelf.create_first("claims/1", b"one")
    assert shelf.create_first("claims/1", b"one")  # an answer was lost, and it was written again
    assert not shelf.create_first("claims/1", b"another")
    assert shelf.read("claims/1", max_bytes=9) == b"one"
