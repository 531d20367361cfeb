import numpy as np
import pytest

from frostline.caching.fill import turns as module
from frostline.caching.fill.turns import Turns


class Others:
    """Claims of which others hold some ids."""

    span_s, patience_s, num_others = 1.0, 0.0, 1

    def __init__(self, held=()):
        self.held, self.taken, self.back, self.is_closed = set(held), [], [], False

    def take(self, ids, most):
        free = np.array([int(own) not in self.held for own in ids])
        free &= np.cumsum(free) <= most
        self.taken.append(ids[free].tolist())
        return free

    def give_back(self, ids):
        self.back += ids.tolist()

    def close(self):
        self.is_closed = True


@pytest.fixture
def waits(monkeypatch):
    found = []
    monkeypatch.setattr(module, "_wait", found.append)
    return found


class Stored:
    """Rows of samples whose id is their place; `published` are found to be stored meanwhile."""

    def __init__(self, published):
        self.published = published

    def look(self, *, is_needed):
        pass

    def is_missing(self, indices):
        return np.array([own not in self.published for own in indices], np.bool_)

    def published_since(self, indices):
        return [own for own in indices if own in self.published]

    def ids(self, indices):
        return np.array(indices, np.uint64)


class Writer:
    """Publishes every second time that it gets rows, or when it is told to."""

    def __init__(self):
        self.published, self.num_given = [], 0

    def add(self, keys, rows):
        self.num_given += 1
        if self.num_given % 2 == 0:
            self.finish()

    def finish(self):
        self.published.append("a shard")


def turns_of(claims, published=None, row_s=0.0, batch_size=2, adopt=lambda position, proves: True):
    """Turns of samples; those that others have published need not be read."""
    rows = Stored(set() if published is None else published)
    return Turns(claims, rows, Writer(), adopt, lambda: row_s, batch_size)


def run(turns, positions):
    found = []
    for turn in turns.rounds(positions):
        found.append(list(turn))
        for position in found[-1]:
            turns.done(position)
    return found


def test_alone_all_comes_in_order_in_one_round(waits):
    claims = Others()
    claims.num_others = 0
    assert run(turns_of(claims), list(range(10))) == [list(range(10))]
    assert [len(own) for own in claims.taken] == [2, 4, 4]  # whole batches, twice as many each time
    assert (claims.back, claims.is_closed, waits) == (list(range(10)), True, [])
    assert run(turns_of(None), [3, 4]) == [[3, 4]]


def test_a_claim_holds_as_much_work_as_it_should_and_half_of_a_fair_share_where_others_are():
    claims = Others()
    claims.num_others = 0
    run(turns_of(claims, row_s=0.25), list(range(12)))
    assert [len(own) for own in claims.taken] == [2, 4, 4, 2]
    claims = Others()
    run(turns_of(claims, row_s=0.01), list(range(64)))
    assert [len(own) for own in claims.taken][:6] == [2, 4, 8, 12, 8, 6]


def test_what_others_hold_comes_last_and_what_they_have_published_is_not_read(waits):
    claims, stored = Others([0, 1, 2, 3]), set()
    turns = turns_of(claims, stored)
    rounds = turns.rounds(list(range(8)))
    assert list(next(rounds)) == [4, 5, 6, 7]
    stored |= {0, 1}
    claims.held = {2}
    assert list(next(rounds)) == [3]
    claims.held = set()
    assert list(next(rounds)) == [2]
    assert list(rounds) == []
    assert claims.is_closed
    assert set(claims.back) >= {0, 1}


def test_who_holds_a_claim_for_too_long_is_not_waited_for(waits):
    claims = Others([0, 1])
    claims.patience_s = -1.0
    assert run(turns_of(claims), [0, 1, 2, 3]) == [[2, 3], [], [0, 1]]
    claims = Others([0, 1])
    claims.patience_s = 1e9
    turns = turns_of(claims)
    rounds = turns.rounds([0, 1, 2, 3])
    for _ in range(10):
        list(next(rounds))
    assert waits[:3] == [0.02, 0.04, 0.08]
    assert max(waits) == 1.0
    rounds.close()
    assert claims.is_closed


def test_claims_are_given_back_with_the_shard_that_holds_their_rows(waits):
    claims = Others()
    turns = turns_of(claims)
    back = []
    for turn in turns.rounds(list(range(6))):
        for position in turn:
            turns.write([position], None, {})
            back.append(list(claims.back))
    assert back == [[], [0, 1], [0, 1], [0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5]]


def test_claims_stay_few_where_a_shard_would_hold_many(waits, monkeypatch):
    monkeypatch.setattr(module, "MOST_CLAIMED", 6)
    claims = Others()
    turns = turns_of(claims)
    for turn in turns.rounds(list(range(4))):
        turns.write(list(turn), None, {})
        assert claims.back == [0, 1, 2, 3]


def test_of_what_others_published_the_first_second_fourth_and_eighth_prove_the_others(waits):
    asked = []

    def adopt(position, proves):
        asked.append((position, proves))
        return not proves

    assert run(turns_of(Others(), set(range(9)), adopt=adopt), list(range(9))) == [[0, 1, 3, 7]]
    assert [position for position, proves in asked if proves] == [0, 1, 3, 7]
