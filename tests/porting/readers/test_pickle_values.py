from frostline.porting.readers.pickle_values import Name, Persistent, RecordedCall, shown


def test_values_are_shown_in_a_few_words():
    assert shown(3) == "3"
    assert shown("a" * 100) == f"'{'a' * 59}"
    assert shown(("storage", Name("torch.FloatStorage"), [1], None)) == "('storage', torch.FloatStorage, a list, None)"
    assert shown([1] * 9) == "(1, 1, 1, 1, 1, 1, ...)"


def test_a_value_that_holds_itself_over_and_over_has_a_short_text():
    value = ()
    for _ in range(200):
        value = (value, RecordedCall("a", (value,)))
    assert shown(value) == "(a tuple, the result of a call)"
    assert repr(RecordedCall("a", (value,))) == "a(...)"
    assert repr(Persistent(value)) == "a reference"
