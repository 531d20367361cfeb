import itertools
import random

import pytest

from frostline.splitting.plan.frozen_calls import FrozenCall, FrozenCalls, FrozenValue
from frostline.splitting.plan.store_or_compute import choices, frontier_choice


def value(call, size):
    return FrozenValue(f"v{call}", frozenset(), call, size)


def call(seconds, reads, again=True):
    return FrozenCall("c", seconds, 0, tuple(reads), again, None)


def graph(calls, values, needed):
    return FrozenCalls(tuple(calls), tuple(values), tuple(needed), 4)


# Layer input h (1,000 bytes) made by a dear call from an input that is too large; q, k, v by cheap calls.
LORA = graph(
    [call(1.0, [0]), *(call(1e-6, [1]) for _ in range(3))],
    [value(None, None), *(value(number, 1000) for number in range(4))],
    [1, 2, 3, 4],
)


def test_a_layer_input_is_stored_once_where_its_projections_are_cheap():
    cheapest, *_ = choices(LORA, byte_s=1e-8)
    assert (cheapest.stored, cheapest.again) == ((1,), (1, 2, 3))
    assert cheapest.bytes(LORA) == 1000
    assert cheapest.again_s(LORA) == pytest.approx(3e-6)


def test_everything_is_stored_where_bytes_cost_nothing_to_speak_of():
    cheapest, *others = choices(LORA, byte_s=1e-12)
    assert cheapest == frontier_choice(LORA)
    assert [own.bytes(LORA) for own in others] == [1000]


def test_a_call_that_must_not_run_again_is_stored():
    noisy = graph([*LORA.calls[:3], call(1e-6, [1], again=False)], LORA.values, LORA.needed)
    cheapest, *_ = choices(noisy, byte_s=1e-8)
    assert cheapest.stored == (1, 4)


def test_there_is_no_choice_where_a_value_can_be_neither_stored_nor_computed():
    stuck = graph([call(1e-6, [0])], [value(None, None), value(0, None)], [1])
    assert list(choices(stuck, byte_s=1e-8)) == []


def test_a_call_with_several_results_is_paid_once():
    chunks = graph([call(1.0, [0]), call(1.5e-5, [1])],
                   [value(None, None), value(0, 1000), value(1, 1000), value(1, 1000)], [2, 3])  # fmt: skip
    cheapest, *_ = choices(chunks, byte_s=1e-8)  # 3e-5 to store both is more than 1e-5 and one call: not twice
    assert cheapest.stored == (2, 3)
    dearer, *_ = choices(chunks, byte_s=2e-8)
    assert (dearer.stored, dearer.again) == ((1,), (1,))


def brute_force(own, byte_s):
    """The least seconds over all sets of stored values from which the needed ones can be computed."""
    best = float("inf")
    storable = [at for at, one in enumerate(own.values) if one.bytes is not None]
    for size in range(len(storable) + 1):
        for stored in itertools.combinations(storable, size):
            made, seconds, todo = set(stored), sum(byte_s * own.values[at].bytes for at in stored), list(own.needed)
            called = set()
            while todo and seconds < best:
                at = todo.pop()
                if at in made:
                    continue
                number = own.values[at].call
                if number is None or not own.calls[number].again:
                    seconds = float("inf")
                    break
                made.add(at)
                if number not in called:
                    called.add(number)
                    seconds += own.calls[number].seconds
                todo += own.calls[number].reads
            best = min(best, seconds)
    return best


@pytest.mark.parametrize("seed", range(40))
def test_the_cut_is_the_best_of_all_choices(seed):
    draw = random.Random(seed)
    values, calls = [value(None, draw.choice([None, 50]))], []
    for number in range(draw.randint(2, 6)):
        reads = draw.sample(range(len(values)), min(len(values), draw.randint(1, 2)))
        calls.append(call(draw.uniform(0, 2e-5), reads, draw.random() < 0.8))
        values += [value(number, draw.choice([None, 0, draw.randint(1, 2000)])) for _ in range(draw.randint(1, 2))]
    own = graph(calls, values, draw.sample(range(len(values)), 2))
    found = next(iter(choices(own, byte_s=1e-8)), None)
    best = brute_force(own, 1e-8)
    if found is None:
        assert best == float("inf")
    else:
        assert 1e-8 * found.bytes(own) + found.again_s(own) == pytest.approx(best, rel=1e-4, abs=1e-12)
