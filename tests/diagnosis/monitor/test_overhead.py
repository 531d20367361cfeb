import pytest

from frostline.diagnosis.monitor.overhead import Account


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def run(*, hidden, own, cycles=20, every=10, pause=0.0):
    """Steps of one second; a sampled one takes longer, of which the watcher sees only `own`."""
    clock = Clock()
    account = Account(clock)
    account.resume()
    for step in range(cycles * every):
        if step % every == 0:
            account.before_sample(step)
            began = clock.now
            clock.now += own
            account.own(began)
            clock.now += hidden * 0.75
        if step % every == 1:
            clock.now += hidden * 0.25
        clock.now += 1.0
        if step % every == 1:
            account.after_sample(step + 1)
        account.pause()
        clock.now += pause
        account.resume()
    return account


@pytest.mark.parametrize("pause", [0.0, 3.0])
def test_what_the_watcher_does_not_see_is_counted(pause):
    account = run(hidden=0.4, own=0.2, pause=pause)
    assert account.own_s == pytest.approx(20 * 0.2)
    assert account.spent_s == pytest.approx(20 * 0.6)
    assert account.elapsed_s == pytest.approx(200 + 20 * 0.6)


def test_nothing_hidden_is_nothing_counted():
    assert run(hidden=0.0, own=0.2).spent_s == pytest.approx(4.0)
    assert run(hidden=-0.1, own=0.2).spent_s == pytest.approx(4.0)


def test_few_samples_or_no_steps_between_tell_nothing():
    assert run(hidden=0.4, own=0.2, cycles=5).spent_s == pytest.approx(5 * 0.2)
    assert run(hidden=0.4, own=0.2, every=2).spent_s == pytest.approx(20 * 0.2)


def test_work_that_was_done_several_times():
    clock = Clock()
    account = Account(clock)
    clock.now += 0.5
    account.own(100.0, times=10)
    assert account.own_s == pytest.approx(5.0)
