import os

import numpy as np
import pytest

from frostline.caching.store import claims as module
from frostline.caching.store.claims import LockedClaims, sweep_claims
from frostline.core import io


def ids(*numbers):
    return np.array(numbers, np.uint64)


def test_what_one_holds_is_not_free_for_another_until_it_is_given_back(tmp_path):
    one, other = LockedClaims(tmp_path / "claims"), LockedClaims(tmp_path / "claims")
    assert one.take(ids(1, 2, 3, 4), most=3).tolist() == [True, True, True, False]
    assert other.take(ids(3, 4, 5), most=9).tolist() == [False, True, True]
    assert (one.num_others, other.num_others) == (0, 1)
    one.give_back(ids(3))
    assert other.take(ids(1, 3), most=9).tolist() == [False, True]
    one.close()
    assert other.take(ids(1, 2), most=9).tolist() == [True, True]
    assert len(list((tmp_path / "claims").iterdir())) == 1
    other.close()
    assert list((tmp_path / "claims").iterdir()) == []


def test_a_claim_ends_with_its_process_and_its_file_is_deleted(tmp_path):
    pid = os.fork()
    if not pid:
        LockedClaims(tmp_path / "claims").take(ids(1, 2), most=9)
        os._exit(0)
    os.waitpid(pid, 0)
    assert len(list((tmp_path / "claims").iterdir())) == 1
    own = LockedClaims(tmp_path / "claims")
    assert own.take(ids(1, 2), most=9).all()
    assert len(list((tmp_path / "claims").iterdir())) == 1
    os.close(own._file)  # as if its process had died
    sweep_claims(tmp_path / "claims")
    assert list((tmp_path / "claims").iterdir()) == []


def test_without_locks_or_room_everything_is_free_and_nothing_is_left(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(module, "lock", refuse)
    one, other = LockedClaims(tmp_path / "claims"), LockedClaims(tmp_path / "claims")
    for own in (one, other, one):
        assert own.take(ids(1, 2), most=9).all()
    assert list((tmp_path / "claims").iterdir()) == []
    one.give_back(ids(1))
    (tmp_path / "file").touch()
    assert LockedClaims(tmp_path / "file").take(ids(1), most=9).all()
    (tmp_path / "link").symlink_to(tmp_path / "claims")
    assert LockedClaims(tmp_path / "link").take(ids(1), most=9).all()


@pytest.mark.parametrize("content", [b"", b"1234567", bytes(8 * 3 + 1), b"x" * (16 * module.MOST_CLAIMED + 1)])
def test_a_claim_of_any_content_stops_nobody(tmp_path, content):
    one, other = LockedClaims(tmp_path / "claims"), LockedClaims(tmp_path / "claims")
    one.take(ids(1), most=9)
    one._path.write_bytes(content)
    assert other.take(ids(1), most=9).all()
    assert list(tmp_path.rglob("*.claim")) != []


def test_files_of_others_in_the_folder_stay(tmp_path):
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "notes.claim").touch()
    own = LockedClaims(tmp_path / "claims")
    assert own.take(ids(1), most=9).all()
    own.close()
    sweep_claims(tmp_path / "claims")
    assert io.names_in(tmp_path / "claims") == ["notes.claim"]
