import re

import numpy as np
import pytest
import torch

import frostline as fl
from frostline.caching import keys
from frostline.caching.keys import NewKeys, as_words, item_key, offered_keys, recipe_key
from helpers_caching import N, Offering, Part, dataset, fill


def test_another_recipe_never_hits(tmp_path):
    fill(tmp_path)
    data = fill(tmp_path, Part(3.0))
    assert data.figures.computed == N
    assert torch.equal(data[1][0][0], dataset()[1][0] * 3)
    assert len(fl.FeatureCache(tmp_path).entries()) == 2


def test_another_fingerprint_never_hits(tmp_path):
    fill(tmp_path, data=Offering())
    other = Offering()
    other.fingerprint = "another transform"
    assert fill(tmp_path, data=other).figures.computed == N


def test_a_dataset_with_keys_needs_a_fingerprint(tmp_path):
    other = Offering()
    other.fingerprint = None
    with pytest.raises(fl.DataError, match="must offer bytes, and a `fingerprint`"):
        fill(tmp_path, data=other)


def test_an_item_is_known_by_names_dtypes_shapes_and_bytes():
    x = torch.arange(4.0)
    same = [x, x.clone(), x.view(2, 2).t().t().reshape(4), torch.arange(8.0)[::2] / 2]
    assert len({item_key(value, 0) for value in same}) == 1
    others = [x, x.view(2, 2), x.double(), x.numpy(), -x, (x,), {"a": x}, {"b": x}, [x, x], 4, 4.0, True, "4", b"4"]
    assert len({item_key(value, 0) for value in others}) == len(others)


def test_mappings_have_no_order():
    assert item_key({"a": 1, "b": 2}, 0) == item_key({"b": 2, "a": 1}, 0)


def test_a_recipe_key_is_a_name_of_a_folder():
    assert re.fullmatch("[0-9a-f]{32}", recipe_key(Part()))
    assert recipe_key(Part()) == recipe_key(Part())
    assert recipe_key(Part(3.0)) != recipe_key(Part())


def test_words_are_the_two_halves():
    own = np.arange(32, dtype=np.uint8).reshape(2, 16)
    halves = [[own[at, :8], own[at, 8:]] for at in (0, 1)]
    assert as_words(own).tolist() == [[int.from_bytes(bytes(half), "little") for half in pair] for pair in halves]


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="torch 2.9 and later have the newer settings")
def test_the_newer_settings_of_precision_are_read_too():
    key, conv = recipe_key(Part()), torch.backends.cudnn.conv
    was, conv.fp32_precision = conv.fp32_precision, "ieee"
    try:
        with pytest.raises(RuntimeError):
            torch.backends.cudnn.allow_tf32  # noqa: B018
        assert recipe_key(Part()) != key
    finally:
        conv.fp32_precision = was
    assert recipe_key(Part()) == key


def every_key(data):
    return [key for _, part in offered_keys(data) for key in part]


def test_keys_are_the_same_in_every_version(monkeypatch):
    """Features that an earlier version has stored are found again; if they must not be, the schema's number goes up."""
    monkeypatch.setattr(keys, "_numerics", lambda: ["highest", True])
    assert recipe_key(Part()) == "09b8477ebecb8421088ac8d140cf6039"
    item = {"x": torch.arange(3.0), "n": (1, 2.5, "a", None, np.arange(2, dtype=np.int16))}
    assert item_key(item, 0).hex() == "ffed6028e8bfeb7fc6b163623457f211"
    assert every_key(Offering(2))[1].tobytes().hex() == "0187de9671f329f441be65573a433a68"


def test_keys_as_text_are_their_bytes_and_numbers_are_none():
    class Named(Offering):
        def sample_key(self, index):
            return names[index]

    names = ["ä", b"\xc3\xa4", 3]
    assert len({row.tobytes() for row in every_key(Named(2))}) == 1
    with pytest.raises(fl.DataError, match="must offer bytes") as error:
        every_key(Named(3))
    assert (error.value.where, error.value.received) == ("sample_key(2) and fingerprint", "int and str")


def test_what_has_no_bytes_is_refused_wherever_it_lies_and_empty_tensors_are_told_apart():
    for odd in (torch.eye(2).to_sparse(), torch.zeros(2, device="meta"), np.array([None]), {1, 2}, object()):
        with pytest.raises(fl.DataError, match="cannot be fingerprinted") as error:
            item_key({"x": [1, odd]}, 4)
        assert error.value.where == "dataset[4]"
    assert item_key(torch.zeros(0, 2), 0) != item_key(torch.zeros(2, 0), 0)


def test_keys_come_part_by_part(monkeypatch):
    whole = np.array(every_key(Offering(9)))
    monkeypatch.setattr(keys, "_AT_ONCE", 4)
    parts = list(offered_keys(Offering(9)))
    assert [(first, len(part)) for first, part in parts] == [(0, 4), (4, 4), (8, 1)]
    assert (np.array(every_key(Offering(9))) == whole).all()


@pytest.mark.parametrize("count", [1, 3, 50])
def test_the_first_sample_of_each_key_is_new(count):
    rng = np.random.default_rng(count)
    own = rng.integers(0, 3, (count, 16)).astype(np.uint8) // 2 * 7  # many alike
    new, seen = NewKeys(own), set()
    for index in rng.permutation(count).tolist():
        assert new.add(index) == (own[index].tobytes() not in seen)
        seen.add(own[index].tobytes())
