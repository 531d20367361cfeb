from frostline.diagnosis.rules.loss_records import LossDomain, LossFacts


def test_defaults_say_that_nothing_was_found():
    assert LossFacts("classes").domain == LossDomain()
    assert LossDomain().uncounted == ()
    assert not LossDomain().needs_positive
