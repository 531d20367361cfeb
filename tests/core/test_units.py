import pytest

from frostline.core.units import seconds_text, size_text


@pytest.mark.parametrize(("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 KB"), (2_800, "2.8 KB"),
                                             (4_000_000, "4.0 MB"), (3e9, "3.0 GB")])  # fmt: skip
def test_a_size_has_the_unit_that_fits(count, text):
    assert size_text(count) == text


@pytest.mark.parametrize(("value", "text"), [(0.0, "0 ms"), (0.0012, "1.2 ms"), (0.001, "1 ms"), (0.5, "500 ms"),
                                             (1.0, "1.0 s"), (100.0, "100 s"), (120.0, "2.0 min"), (7200.0, "2.0 h"),
                                             (4e6, "1111 h")])  # fmt: skip
def test_seconds_have_the_unit_that_fits(value, text):
    assert seconds_text(value) == text
