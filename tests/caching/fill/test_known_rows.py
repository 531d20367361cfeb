import frostline as fl
from frostline.caching.fill.fill_plan import Samples
from frostline.caching.fill.known_rows import KnownRows, place_ids
from frostline.caching.keys import as_words, offered_keys
from helpers_caching import N, Offering, fill, opened_in


def rows_of(root) -> KnownRows:
    """Of all samples, whose keys are known."""
    samples = Samples(N, [])
    for first, keys in offered_keys(Offering()):
        samples.keys[first : first + len(keys)] = keys
    return KnownRows(opened_in(fl.FeatureCache(root)), samples)


def test_what_others_publish_is_known_after_a_look_and_what_was_there_is_told_apart(tmp_path):
    fill(tmp_path, data=Offering(8))
    rows = rows_of(tmp_path)
    fill(tmp_path, data=Offering(16))
    assert rows.is_missing(range(18)).tolist() == [False] * 8 + [True] * 10
    assert rows.published_since(range(18)) == []
    rows.look(is_needed=True)
    assert rows.is_missing([17, 15, 0]).tolist() == [True, False, False]
    assert rows.published_since([17, 15, 8, 0]) == [15, 8]
    assert [(rows.has(at), rows.had(at)) for at in (0, 15, 17)] == [(True, True), (True, False), (False, False)]


def test_a_look_that_is_not_needed_waits_until_it_takes_a_twentieth_of_the_time(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("frostline.caching.fill.known_rows.time.monotonic", lambda: now[0])
    rows, looks = rows_of(tmp_path), []
    monkeypatch.setattr(rows._opened, "has_news", lambda: True)

    def refresh():
        looks.append(now[0])
        now[0] += 1.0  # a slow disk

    monkeypatch.setattr(rows._opened, "refresh", refresh)
    for moment in (0.0, 5.0, 20.5, 21.0, 25.0):
        now[0] = max(now[0], moment)
        rows.look(is_needed=False)
    assert looks == [0.0, 21.0]
    rows.look(is_needed=True)
    assert looks[2:] == [25.0]


def test_samples_without_keys_are_known_by_their_place(tmp_path):
    fill(tmp_path, data=Offering())
    rows = rows_of(tmp_path)
    assert rows.ids([3, 1]).tolist() == as_words(rows._samples.keys[[3, 1]])[:, 0].tolist()
    rows.follow_places(b"a" * 32)
    rows.look(is_needed=True)
    assert rows.is_missing([0, 1]).tolist() == [True, True]
    assert rows.published_since([0, 1]) == []
    assert rows.ids([3, 1]).tolist() == place_ids([3, 1], b"a" * 32).tolist()


def test_ids_of_places_differ_by_place_and_content():
    one, other = place_ids(range(1000), b"a" * 32), place_ids(range(1000), b"b" * 32)
    assert len({*one.tolist(), *other.tolist()}) == 2000
    assert place_ids([7, 3], b"a" * 32).tolist() == one[[7, 3]].tolist()
