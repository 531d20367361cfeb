from frostline.diagnosis.rules.wiring_records import AxesFacts, ModeFacts, OutsideFacts, PlaceFacts


def test_defaults_say_that_nothing_was_found():
    assert AxesFacts() == AxesFacts((), (), ())
    assert ModeFacts().dropout == 0.0
    assert ModeFacts().redraws is None
    assert OutsideFacts() == OutsideFacts((), ())
    assert not PlaceFacts().sees_answer
