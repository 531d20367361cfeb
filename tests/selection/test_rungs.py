import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline.selection.rungs import rungs, survivors


@given(heads=st.integers(1, 300), epochs=st.integers(1, 300), factor=st.integers(2, 8))
def test_rungs_rise_below_the_last_epoch_and_leave_a_head(heads, epochs, factor):
    found = rungs(heads, epochs, factor)
    assert list(found) == sorted(set(found))
    assert all(1 <= place < epochs for place in found)
    left = heads
    for _ in found:
        assert left > 1
        left = -(-left // factor)
    assert left >= 1


@pytest.mark.parametrize(("factor", "cost"), [(2, 16 + 8 + 2 * 4 + 4 * 2 + 8), (4, 16 + 3 * 4 + 12)])
def test_halving_costs_a_fraction(factor, cost):
    alive, before, spent = 16, 0, 0
    for place in (*rungs(16, 16, factor), 16):
        spent += alive * (place - before)
        alive, before = -(-alive // factor), place
    assert spent == cost


def test_the_best_survive_in_order():
    assert survivors({5: 0.1, 1: 0.9, 2: 0.9, 3: 0.5, 4: 0.2}, 2) == [1, 2, 3]
    assert survivors({5: 0.1}, 3) == [5]
