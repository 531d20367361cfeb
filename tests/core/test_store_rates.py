from frostline.core import store_rates


def test_gathering_is_measured_once_and_is_quicker_than_filling():
    first = store_rates.gather_byte_s()
    assert 0 < first < 1 / store_rates.FILL_BYTES_PER_S
    assert store_rates.gather_byte_s() == first
