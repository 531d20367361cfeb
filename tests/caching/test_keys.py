import re

import numpy as np
import pytest
import torch

import frostline as fl
from frostline.caching.keys import as_words, item_key, recipe_key
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


def test_words_are_the_first_halves():
    keys = np.arange(32, dtype=np.uint8).reshape(2, 16)
    assert as_words(keys).tolist() == [int.from_bytes(bytes(keys[at, :8]), "little") for at in (0, 1)]


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
