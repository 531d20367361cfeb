from dataclasses import FrozenInstanceError

import pytest

from frostline.diagnosis.rules.row_records import HeartFacts, RowFacts


def test_what_rows_say_is_a_record_that_says_nothing_by_itself():
    facts = RowFacts()
    assert facts.answer_at is None
    assert facts.torn_targets is None
    with pytest.raises(FrozenInstanceError):
        facts.torn = 1.0


def test_rows_come_once_unless_it_is_said():
    facts = HeartFacts(1.0, 1.0, 0.1, 0.1)
    assert (facts.times, facts.in_a_row) == (1.0, 1.0)
