from dataclasses import replace

from frostline.core.storage_records import (
    Alternative,
    CallCost,
    StorageCosts,
    StoragePlan,
    least_stored,
    title_of,
)


def way(name, size, total, *, epoch=1.0, again=(), is_cached=True, pays=3):
    return Alternative(name, is_cached, (name,), again, size, epoch, 2.0, total, pays)


def test_of_ways_that_are_about_as_quick_the_one_that_stores_least_is_taken():
    quick, small, slow = way("a", 400, 10.0), way("b", 100, 10.2), way("c", 10, 11.0)
    assert least_stored([quick, small, slow]) is small
    assert least_stored([quick, slow]) is quick
    assert least_stored([]) is None


def test_a_plan_in_words():
    again = ("body.layer.3.query.linear", "body.layer.3.key.linear")
    ways = (way("h", 100, 9.0, again=again), way("the frontier", 400, 9.1, pays=1), way("no cache", 0, 30.0, epoch=3.0,
            is_cached=False), way("x", 10, 40.0, again=("body.conv",), pays=None))  # fmt: skip
    calls = (CallCost("body.conv", 2.5, 3000, "not needed"), CallCost("h", 0.1, 100, "stored"))
    plan = StoragePlan(
        1000, 10, 10**6, StorageCosts(32, 0, 0, 0, 0, 0), calls, ways, ways[0], ("the large one",), "why"
    )
    assert str(plan).splitlines() == [
        "Plan:      use a cache that stores less than the frontier: 10 epochs of 1,000 samples take 9.0 s instead of "
        "30.0 s, with the fill",
        "           fit(cache='auto') does; else split.follow(split.plan(1000, epochs=10)), and fill that one",
        "  -> store h, and compute 2 calls again in every step (in body.layer.3: query.linear, key.linear): "
        "1.0 s per epoch, 100 bytes per sample, filled in 2.0 s, pays after 3 epochs",
        "     store the frontier: 1.0 s per epoch, 400 bytes per sample, filled in 2.0 s, pays after 1 epoch",
        "     no cache: 3.0 s per epoch",
        "     store x, and compute 1 call again in every step (body.conv): 1.0 s per epoch, 10 bytes per sample, "
        "filled in 2.0 s, never pays",
        "     the large one: does not fit into 1.0 MB",
        "  (why)",
    ]
    frontier = replace(plan, alternatives=ways[1:3], chosen=ways[1])
    assert str(frontier).splitlines()[0] == (
        "Plan:      use a cache: 10 epochs of 1,000 samples take 9.1 s instead of 30.0 s, with the fill"
    )
    none = replace(plan, alternatives=ways[1:3], chosen=ways[2], epochs=1)
    assert str(none).splitlines()[0] == (
        "Plan:      train without a cache: 1 epoch of 1,000 samples takes 30.0 s, 9.1 s with one, which pays after "
        "1 epoch"
    )
    close = replace(none, alternatives=(replace(ways[1], total_s=29.5), ways[2]))
    assert str(close).splitlines()[0] == (
        "Plan:      train without a cache: 1 epoch of 1,000 samples takes 30.0 s, 29.5 s with one: too small a gain to "
        "store anything for it"
    )


def test_a_tenth_of_the_bytes_is_not_worth_a_split_of_its_own():
    frontier, little, much = (
        way("the frontier", 100, 9.0),
        way("a", 90, 9.0, again=("b",)),
        way("c", 70, 9.0, again=("d",)),
    )
    assert least_stored([frontier, little]) is frontier
    assert least_stored([frontier, little, much]) is much


def test_the_best_cache_is_the_chosen_one_or_the_best_of_the_others():
    frontier, none = way("the frontier", 400, 9.0), way("no cache", 0, 5.0, is_cached=False)
    costs = StorageCosts(32, 0, 0, 0, 0, 0)
    assert StoragePlan(1, 1, None, costs, (), (none, frontier), none).best_cached is frontier
    assert StoragePlan(1, 1, None, costs, (), (none,), none).best_cached is None
    assert StoragePlan(1, 1, None, costs, (), (frontier, none), frontier).best_cached is frontier


def test_long_lists_of_calls_are_cut():
    many = tuple(f"a.b{number}" for number in range(9))
    assert title_of(way("h", 1, 1.0, again=many)).endswith("(in a: b0, b1 and 7 more)")


def test_the_loop_costs_as_many_steps_as_an_epoch_has():
    assert StorageCosts(32, 0, 0, 0, 0, 0, step_s=0.5).loop_s(33) == 1.0
