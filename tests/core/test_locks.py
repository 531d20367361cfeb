from frostline.core import locks


def test_a_lock_that_is_held_is_waited_for_and_given_up(tmp_path):
    with locks.held(tmp_path / "lock", wait_s=0) as is_free:
        assert is_free
        with locks.held(tmp_path / "lock", wait_s=0) as is_free_too:
            assert not is_free_too
    with locks.held(tmp_path / "lock", wait_s=0) as is_free:
        assert is_free
    with locks.held(tmp_path / "no" / "lock", wait_s=0) as is_free:
        assert is_free
    with locks.held(tmp_path, wait_s=0, is_folder=True), locks.held(tmp_path, wait_s=0, is_folder=True) as is_free:
        assert not is_free
    with locks.held(tmp_path / "no", wait_s=0, is_folder=True) as is_free:
        assert is_free
    assert [own.name for own in tmp_path.iterdir()] == ["lock"]


def test_a_lock_that_is_let_go_meanwhile_is_had(tmp_path, monkeypatch):
    holder = locks.held(tmp_path / "lock", wait_s=0)
    assert holder.__enter__()
    waits = []

    def wait(seconds):  # the other process ends while this one waits
        waits.append(seconds)
        if len(waits) == 3:
            holder.__exit__(None, None, None)

    monkeypatch.setattr(locks.time, "sleep", wait)
    with locks.held(tmp_path / "lock", wait_s=60) as is_free:
        assert is_free
    assert len(waits) == 3


def test_a_lock_is_given_up_when_its_time_is_over(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(locks.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(locks.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    with locks.held(tmp_path / "lock", wait_s=0), locks.held(tmp_path / "lock", wait_s=1.0) as is_free:
        assert not is_free
    assert 1.0 <= now[0] < 1.1
