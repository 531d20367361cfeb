import gc
import os

import pytest

from frostline.core import locks, new_files
from frostline.core.reserved_file import Reserved


def test_what_comes_later_shows_in_the_map_and_has_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "a"
    file = Reserved(path, 2**20)
    mapped = file.mapped()
    assert (len(mapped), mapped[:3], path.exists()) == (2**20, bytes(3), False)
    assert sum(own.stat().st_blocks for own in tmp_path.iterdir()) == 0  # no room is taken yet
    file.write([b"abc"])
    assert mapped[:3] == b"abc"
    file.write([b"x" * 2**19, b"y" * 2**19])  # from the first byte on
    file.publish()
    assert (mapped[:1], mapped[-1:]) == (b"x", b"y")
    assert path.read_bytes() == b"x" * 2**19 + b"y" * 2**19
    assert [own.name for own in tmp_path.iterdir()] == ["a"]
    descriptor = os.open(path, os.O_RDWR)
    assert not locks.lock(descriptor, is_exclusive=True)  # nobody deletes it
    del file
    gc.collect()
    assert not locks.lock(descriptor, is_exclusive=True)  # as long as it is mapped
    assert mapped[:1] == b"x"
    del mapped
    assert locks.lock(descriptor, is_exclusive=True)
    os.close(descriptor)


def test_what_never_came_is_not_left(tmp_path):
    file = Reserved(tmp_path / "a", 100)
    assert new_files.sweep(tmp_path) == 0  # it is being written
    del file
    gc.collect()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_that_was_forked_may_finish_it(tmp_path):
    file = Reserved(tmp_path / "a", 3)
    child = os.fork()
    if not child:
        file.write([b"abc"])
        file.publish()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    file.write([b"abc"])
    file.publish()
    assert [(own.name, own.read_bytes()) for own in tmp_path.iterdir()] == [("a", b"abc")]


def test_a_name_that_is_gone_is_an_error(tmp_path):
    file = Reserved(tmp_path / "a", 3)
    next(tmp_path.iterdir()).unlink()
    with pytest.raises(FileNotFoundError):
        file.publish()
