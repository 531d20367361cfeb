import fsspec
import numpy as np
import pytest

from frostline.caching.location import store_claims as module
from frostline.caching.location.store_claims import StoreClaims
from frostline.core.shelf import Shelf


@pytest.fixture
def shelf(tmp_path):
    yield Shelf(f"memory://{tmp_path.name}/features")
    fsspec.filesystem("memory").store.clear()


def ids(*numbers):
    return np.array(numbers, np.uint64)


def test_what_one_machine_holds_is_not_free_for_another_until_it_is_given_back(shelf):
    one, other = StoreClaims(shelf, "claims"), StoreClaims(shelf, "claims")
    assert one.take(ids(1, 2, 3), most=2).tolist() == [True, True, False]
    assert other.take(ids(2, 3), most=9).tolist() == [False, True]
    assert one.take(ids(3, 4), most=9).tolist() == [False, True]
    assert (one.num_others, other.num_others) == (1, 1)
    one.give_back(ids(1))
    assert other.take(ids(1), most=9).tolist() == [False]  # an object goes when all of it is given back
    one.give_back(ids(2))
    assert other.take(ids(1, 4), most=9).tolist() == [True, False]
    one.close()
    assert other.take(ids(4), most=9).all()
    other.close()
    assert shelf.sizes("claims") == {}


def test_of_those_that_claim_at_once_one_gets_it(shelf, monkeypatch):
    one, other = StoreClaims(shelf, "claims"), StoreClaims(shelf, "claims")
    real, found = StoreClaims._of_others, []

    def both_look_first(own):
        listed = real(own)
        if own is one and not found:
            found.append(other.take(ids(1, 2), most=9).tolist())
        return listed

    monkeypatch.setattr(StoreClaims, "_of_others", both_look_first)
    assert one.take(ids(2, 3), most=9).tolist() == [False, True]
    assert found == [[True, True]]


def test_a_claim_that_does_not_change_is_dead_by_the_clock_of_who_looks(shelf, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    dead, own = StoreClaims(shelf, "claims"), StoreClaims(shelf, "claims")
    dead.take(ids(1), most=9)
    assert not own.take(ids(1), most=9).any()
    now[0] = module._DEAD_S
    assert not own.take(ids(1), most=9).any()
    before = shelf.sizes("claims")
    while shelf.sizes("claims") == before:  # another one of the same name: as long by chance, once in a thousand times
        shelf.delete("claims/00000001")
        StoreClaims(shelf, "claims").take(ids(1), most=9)
    now[0] = 1.5 * module._DEAD_S  # it counts from when it was seen
    assert not own.take(ids(1), most=9).any()
    now[0] = 3 * module._DEAD_S
    assert own.take(ids(1), most=9).all()
    assert len(shelf.sizes("claims")) == 1


def test_a_store_that_fails_or_may_not_be_written_leaves_everything_free(shelf, monkeypatch):
    files = fsspec.filesystem("memory")

    def refuse(*_, **__):
        raise PermissionError("not allowed")

    monkeypatch.setattr(files, "pipe_file", refuse)
    own = StoreClaims(shelf, "claims")
    assert own.take(ids(1), most=9).all()
    monkeypatch.undo()
    assert own.take(ids(1), most=9).all()  # it does not ask again
    assert shelf.sizes("claims") == {}


@pytest.mark.parametrize("content", [b"", b"in use", bytes(100), b"\xff" * 100])
def test_a_claim_of_any_content_stops_nobody(shelf, content):
    shelf.create("claims/00000007", content)
    own = StoreClaims(shelf, "claims")
    assert own.take(ids(1), most=9).all()
    assert "00000008" in shelf.sizes("claims")
