"""The ranges of a fill, on a stand-in for Ray: a real cluster is asked in `test_ray_builders`, and takes seconds."""

from types import SimpleNamespace

import pytest

import frostline as fl
from frostline.caching.fill import ray_ranges as module
from frostline.caching.fill.ray_ranges import Ranges, died


class GoneError(Exception):
    pass


class Cluster:
    """So many actors start, the others wait for room; `behave(number of the actor, indices)` is what a range does.

    What hangs is never done; what is an error is raised.
    """

    def __init__(self, room, behave=lambda number, indices: indices):
        self.room, self.behave, self.made, self.killed, self.timeouts = room, behave, 0, [], []
        self.exceptions = SimpleNamespace(RayActorError=GoneError, ObjectLostError=GoneError)

    def actor(self):
        self.made += 1
        number = self.made

        return SimpleNamespace(
            number=number, ready=SimpleNamespace(remote=lambda: ("ready", number, ())),
            fill=SimpleNamespace(remote=lambda indices: ("fill", number, tuple(indices))),
        )  # fmt: skip

    def _result(self, reference):
        kind, number, found = reference
        if kind == "fill":
            return self.behave(number, list(found))
        return self.room(number) if callable(self.room) else (None if number <= self.room else "hang")

    def wait(self, references, num_returns, timeout):
        self.timeouts.append(timeout)
        done = [own for own in references if self._result(own) != "hang"]
        return done[:1], []

    def get(self, reference):
        found = self._result(reference)
        if isinstance(found, Exception):
            raise found
        return SimpleNamespace(indices=found)

    def kill(self, actor):
        self.killed.append(actor.number)


RANGES = [[0, 1], [2, 3], [4, 5], [6, 7]]


def run(cluster, num_actors=2):
    here, taken = [], []
    ranges = Ranges(cluster, RANGES, cluster.actor, lambda: num_actors, here.extend)
    try:
        ranges.run(lambda part: taken.extend(part.indices))
    finally:
        assert sorted([*here, *taken]) == sorted({*here, *taken})  # none twice
    assert sorted([*here, *taken]) == list(range(8))
    return here, taken, ranges.notes()


def test_actors_fill_all():
    cluster = Cluster(2)
    assert run(cluster)[0::2] == ([], [])
    assert cluster.made == 2


def test_an_actor_without_room_keeps_nothing_waiting():
    cluster = Cluster(1)
    here, _, notes = run(cluster)
    assert (here, notes, cluster.killed) == ([], [], [2])


def test_without_any_room_this_process_fills_after_a_minute_and_says_so():
    cluster = Cluster(0)
    here, _, notes = run(cluster)
    assert here == list(range(8))
    assert notes == ["the cluster had no room for a builder, and this process filled 8 samples"]
    assert 50 < cluster.timeouts[0] <= module._START_S
    assert set(cluster.timeouts[1:]) == {0.0}
    assert set(cluster.killed) == {1, 2}


def test_room_that_comes_late_is_used():
    calls = []

    def room(_):
        calls.append(1)
        return None if len(calls) > 6 else "hang"

    here, taken, _ = run(Cluster(room))
    assert here
    assert taken


@pytest.mark.parametrize("hanging", [1, 2])
def test_a_range_at_which_an_actor_hangs_is_filled_here_in_the_end(hanging):
    cluster = Cluster(2, lambda number, indices: "hang" if number == hanging else indices)
    here, _, notes = run(cluster)
    assert len(here) == 2
    assert notes == ["builders took too long, and this process filled 2 samples of theirs"]
    assert hanging in cluster.killed
    assert max(cluster.timeouts) <= module._RANGE_S


def test_what_a_dead_actor_had_goes_to_another_one_and_after_three_is_an_error():
    cluster = Cluster(9, lambda number, indices: GoneError("gone") if number == 1 else indices)
    here, _, notes = run(cluster)
    assert here == []
    assert notes == ["a builder died, and its 2 samples went to another one"]
    tried = []

    def behave(number, indices):
        tried.append((number, 4 in indices))
        return GoneError("gone") if 4 in indices else indices

    with pytest.raises(fl.DataError, match="3 builders have died"):
        run(Cluster(99, behave))
    assert len({number for number, has_died in tried if has_died}) == 3


def test_actors_that_die_while_they_start_are_an_error_after_three():
    with pytest.raises(fl.DataError, match="3 builders have died") as caught:
        run(Cluster(lambda number: GoneError("no memory")))
    assert caught.value.received == "no memory"
    here, _, _ = run(Cluster(lambda number: GoneError("once") if number == 1 else None))
    assert here == []


def test_samples_over_which_builders_die_again_and_again_are_named():
    assert died([40, 41, 42], RuntimeError("killed")).where == "samples 40 to 42"
