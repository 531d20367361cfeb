import copy
import hashlib
import json
from contextlib import ExitStack

import pytest

import frostline as fl
from frostline.caching.location.remote import RemoteRecipe
from frostline.caching.store.shards import Shards
from frostline.caching.store.sharing import ALONE, KEY_VARIABLE, Sharing
from frostline.core.shelf import Shelf
from helpers_caching import N, Part, dataset, fill


def test_another_process_reads_what_is_on_the_disk_and_knows_no_store(tmp_path):
    sharing = Sharing(RemoteRecipe(Shelf("memory://a", {"token": "secret"}), tmp_path))
    assert copy.deepcopy(sharing) == ALONE


KEY, OTHER = b"k" * 32, b"o" * 32


@pytest.fixture
def keys(tmp_path):
    """(a key file, another one), outside of the cache."""
    found = tmp_path / "one.key", tmp_path / "other.key"
    for path, content in zip(found, (KEY, OTHER), strict=True):
        path.write_bytes(content)
    return found


def signed(root, key, **options):
    return fl.FeatureCache(root, key_file=key).fill(Part(), dataset(), progress=False, **options)


def manifest_of(root):
    (path,) = root.glob("*/manifests/*.json")
    return path


def test_a_signed_cache_is_read_with_its_key_and_without_one(tmp_path, keys):
    root = tmp_path / "cache"
    assert signed(root, keys[0]).figures.computed == N
    assert signed(root, keys[0]).figures.computed == 0
    assert fill(root).figures.computed == 0
    assert len(fl.FeatureCache(root, key_file=keys[0]).entries()) == 1
    for path in root.rglob("*"):
        assert path.is_dir() or (KEY not in path.read_bytes() and KEY.hex().encode() not in path.read_bytes())


def test_another_key_is_refused_in_four_parts_that_do_not_show_it(tmp_path, keys):
    root = tmp_path / "cache"
    signed(root, keys[0])
    for call in (lambda: signed(root, keys[1]), fl.FeatureCache(root, key_file=keys[1]).verify):
        with pytest.raises(fl.CacheError, match="is not signed with your key") as caught:
            call()
        assert all(caught.value.parts().values())
        assert "another key" in caught.value.received
        assert not any(own.decode() in str(caught.value) for own in (KEY, OTHER))


def test_what_nobody_has_signed_is_refused(tmp_path, keys):
    root = tmp_path / "cache"
    fill(root)
    with pytest.raises(fl.CacheError, match="is not signed") as caught:
        signed(root, keys[0])
    assert caught.value.received == "no signature"


def test_a_manifest_that_is_forged_is_refused(tmp_path, keys):
    """Rows of the forger's choice in a shard with its own digest, and a manifest that lacks the signature alone."""
    root = tmp_path / "cache"
    signed(root, keys[0])
    path = manifest_of(root)
    whole = json.loads(path.read_text())
    store = Shards(path.parent.parent / "shards")
    tensors = dict(store.open(whole["content"]["shards"][0]))
    with ExitStack() as hold:
        name = store.write({**tensors, "low": tensors["low"] + 1}, hold)
    whole["content"]["shards"] = [name]
    whole["digest"] = hashlib.sha256(json.dumps(whole["content"], sort_keys=True).encode()).hexdigest()
    for number, changed in enumerate([whole, {**whole, "signature": None}, {**whole, "signature": "é"}]):
        own = path.with_name(f"{number + 2:08d}-{whole['digest'][:16]}.json")
        own.write_text(json.dumps(changed))
        with pytest.raises(fl.CacheError, match="is not signed"):
            signed(root, keys[0])
        own.unlink()
    assert signed(root, keys[0]).figures.computed == 0


def test_a_signed_manifest_of_another_recipe_is_passed_over(tmp_path, keys):
    root = tmp_path / "cache"
    signed(root, keys[0])
    path = manifest_of(root)
    other = fl.FeatureCache(root, key_file=keys[0]).fill(Part(3.0), dataset(), progress=False)
    target = next(own for own in root.glob("*/manifests") if own != path.parent)
    (target / path.name).write_bytes(path.read_bytes())
    again = fl.FeatureCache(root, key_file=keys[0]).fill(Part(3.0), dataset(), progress=False)
    assert (other.figures.computed, again.figures.computed) == (N, 0)
    assert "passed over" in again.notes[0]


def test_the_variable_names_the_key_where_no_option_does(tmp_path, keys, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, str(keys[0]))
    fill(tmp_path / "cache")
    assert "signature" in json.loads(manifest_of(tmp_path / "cache").read_text())
    with pytest.raises(fl.CacheError, match="is not signed"):
        signed(tmp_path / "cache", keys[1])
    monkeypatch.setenv(KEY_VARIABLE, "")
    assert fl.FeatureCache(tmp_path / "cache").location.signer is None


def test_keys_that_protect_nothing_are_refused(tmp_path, keys):
    (tmp_path / "short").write_bytes(b"abc")
    with pytest.raises(fl.DataError, match="too short"):
        fl.FeatureCache(tmp_path / "cache", key_file=tmp_path / "short")
    with pytest.raises(fl.DataError, match="lies in the cache"):
        fl.FeatureCache(tmp_path, key_file=keys[0])
    with pytest.raises(fl.DataError, match="There is no key at this path") as error:
        fl.FeatureCache(tmp_path / "cache", key_file=tmp_path / "none")
    assert "openssl rand" in error.value.do
    (tmp_path / "file").touch()
    with pytest.raises(fl.CacheError, match="Cannot read the key"):
        fl.FeatureCache(tmp_path / "cache", key_file=tmp_path / "file" / "none")
    with pytest.raises(fl.CacheError, match="not a regular file"):
        fl.FeatureCache(tmp_path / "cache", key_file=tmp_path)


def test_a_key_is_read_again_in_another_process_and_shown_nowhere(tmp_path, keys):
    cache = fl.FeatureCache(tmp_path / "cache", key_file=keys[0])
    assert KEY.decode() not in repr(cache.location.signer)
    how, what = cache.location.signer.__reduce__()
    assert what == (keys[0],)
    assert how(*what).sign("manifest", "a") == cache.location.signer.sign("manifest", "a")
    assert cache.location.signer.sign("manifest", "a") != cache.location.signer.sign("proof", "a")


def test_a_store_is_signed_as_a_folder_is(tmp_path, keys):
    import fsspec

    url = f"memory://{tmp_path.name}"
    make = lambda key, number: fl.FeatureCache(url, key_file=key, local_folder=tmp_path / f"copies-{number}")  # noqa: E731
    make(keys[0], 1).fill(Part(), dataset(), progress=False)
    assert make(keys[0], 2).fill(Part(), dataset(), progress=False).figures.computed == 0
    with pytest.raises(fl.CacheError, match="is not signed"):
        make(keys[1], 3).fill(Part(), dataset(), progress=False)
    fsspec.filesystem("memory").store.clear()
