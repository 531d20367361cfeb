import pytest

from frostline.recipes.cache_cost import CacheCost


def test_many_epochs_pay_and_one_does_not():
    assert CacheCost(1000, 1000, 10, 0.01, 2048).pays
    one = CacheCost(1000, 1000, 1, 0.01, 2048)
    assert not one.pays
    assert one.uncached_s == pytest.approx(10)
    assert str(one) == (
        "A cache saves no time in this run: the frozen part takes about 10.0 s for 1,000 samples in 1 epoch without "
        "one; with one, filling takes about 10.3 s (1,000 rows of 2.0 KB) and reading features 1 ms. It pays from the "
        "next run with the same frozen part; cache=False (--no-cache) leaves it out."
    )


def test_features_that_take_longer_to_read_than_to_compute_never_pay():
    wide = CacheCost(1000, 1000, 50, 0.001, 8_000_000)
    assert not wide.pays
    assert "The features are too large for it: freeze more layers" in str(wide)
    assert "rows of 8.0 MB" in str(wide)


def test_what_is_stored_is_not_filled_again():
    assert CacheCost(1000, 0, 1, 0.01, 2048).fill_s == 0
    stored = CacheCost(1000, 100, 2, 0.01, 2048)
    assert stored.pays
    assert str(stored).startswith("A cache saves time in this run: the frozen part takes about 20.0 s")
    assert "in 2 epochs" in str(stored)
