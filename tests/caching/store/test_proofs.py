import json
import os
import time

import pytest

import frostline as fl
from frostline.caching.store import collector
from frostline.caching.store.proofs import Proofs
from helpers_caching import Part, fill

KEY, FIGURES = {"versions": "torch 2", "samples": "abc"}, {"samples": 3, "largest_difference": 0.0}


def file_of(root):
    (path,) = root.glob("*/proofs/*.json")
    return path


def test_a_proof_is_recalled_by_exactly_its_key_and_its_part(tmp_path):
    proofs = Proofs(tmp_path)
    assert proofs.recall(Part(), KEY) is None
    proofs.keep(Part(), KEY, FIGURES)
    assert Proofs(tmp_path).recall(Part(), KEY) == FIGURES
    assert proofs.recall(Part(3.0), KEY) is None
    for name in KEY:
        assert proofs.recall(Part(), {**KEY, name: "other"}) is None
        assert proofs.recall(Part(), {other: KEY[other] for other in KEY if other != name}) is None
    assert proofs.recall(Part(), {**KEY, "more": ""}) is None


def test_a_file_with_another_key_under_this_name_does_not_count(tmp_path):
    proofs = Proofs(tmp_path)
    proofs.keep(Part(), KEY, FIGURES)
    path = file_of(tmp_path)
    proofs.keep(Part(), {"other": "key"}, FIGURES)
    (other,) = set(path.parent.iterdir()) - {path}
    path.write_bytes(other.read_bytes())
    assert proofs.recall(Part(), KEY) is None


@pytest.mark.parametrize("harm", [lambda text: text[:-9], lambda text: "[1]", lambda text: "{}",
                                  lambda text: text.replace("0.0", '"0"'), lambda text: "\0",
                                  lambda text: text.replace('"samples": 3', '"samples": 4'),
                                  lambda text: text.replace('"format": 1', '"format": 2')])  # fmt: skip
def test_a_file_that_is_not_whole_is_no_proof_and_the_next_one_replaces_it(tmp_path, harm):
    proofs = Proofs(tmp_path)
    proofs.keep(Part(), KEY, FIGURES)
    path = file_of(tmp_path)
    text = path.read_text()
    path.write_text(harm(text))
    assert path.read_text() != text
    assert proofs.recall(Part(), KEY) is None
    proofs.keep(Part(), KEY, FIGURES)
    assert proofs.recall(Part(), KEY) == FIGURES


def test_figures_are_numbers_and_nothing_else_is_stored(tmp_path):
    Proofs(tmp_path).keep(Part(), KEY, FIGURES)
    content = json.loads(file_of(tmp_path).read_text())
    assert set(content) == {"format", "digest", "content"}
    assert content["content"] == {"key": KEY, "figures": FIGURES}


def test_proofs_that_were_used_last_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(collector, "_MAX_PROOFS", 3)
    proofs, keys = Proofs(tmp_path), [{"number": str(at)} for at in range(5)]
    now = time.time()
    for at, key in enumerate(keys[:3]):
        proofs.keep(Part(), key, FIGURES)
        os.utime(proofs._path(Part(), key), (now - 100 + at, now - 100 + at))
    foreign = proofs._path(Part(), keys[0]).parent / "notes.json"
    foreign.write_text("mine")
    assert proofs.recall(Part(), keys[0]) == FIGURES  # a use counts
    proofs.keep(Part(), keys[3], FIGURES)
    assert [proofs.recall(Part(), key) is not None for key in keys] == [True, False, True, True, False]
    assert foreign.exists()


def test_a_proof_that_was_not_used_for_months_goes(tmp_path):
    proofs = Proofs(tmp_path)
    proofs.keep(Part(), KEY, FIGURES)
    long_ago = time.time() - collector._MAX_PROOF_AGE_S - 10
    os.utime(file_of(tmp_path), (long_ago, long_ago))
    proofs.keep(Part(), {"other": "key"}, FIGURES)
    assert proofs.recall(Part(), KEY) is None
    assert proofs.recall(Part(), {"other": "key"}) == FIGURES


def test_a_folder_that_cannot_be_written_costs_the_memory_only(tmp_path):
    (tmp_path / "file").write_text("")
    proofs = Proofs(tmp_path / "file")
    proofs.keep(Part(), KEY, FIGURES)
    assert proofs.recall(Part(), KEY) is None


def test_purge_deletes_the_proofs_of_a_recipe(tmp_path):
    fill(tmp_path)
    Proofs(tmp_path).keep(Part(), KEY, FIGURES)
    assert fl.FeatureCache(tmp_path).purge() > 0
    assert not list(tmp_path.iterdir())


def test_purge_deletes_a_proof_without_rows_which_no_list_names(tmp_path):
    Proofs(tmp_path).keep(Part(), KEY, FIGURES)
    cache = fl.FeatureCache(tmp_path)
    assert (cache.entries(), cache.verify()) == ((), ())
    assert cache.purge() > 0
    assert not list(tmp_path.iterdir())
