from contextlib import ExitStack

from torch import nn

from frostline.porting.settings.setting import causes_of, checks_of, described, fixed, number, set_equal


def test_numbers_are_compared_as_floats_of_any_precision():
    norm = nn.LayerNorm(3, eps=1e-3)
    assert number("n", "epsilon", norm, "eps", 0.0010000000474974513).check.status == "agrees"
    other = number("n", "epsilon", norm, "eps", 1e-6)
    assert (other.check.status, other.check.text) == ("differs", "0.001 in the module, 1e-06 in the file")


def test_what_differs_is_set_and_put_back():
    norm = nn.LayerNorm(3, eps=1e-3)
    settings = [number("n", "epsilon", norm, "eps", 1e-6), fixed("c", "stride", (1,), (2,))]
    with ExitStack() as undo:
        (check,) = set_equal(settings, undo)
        assert norm.eps == 1e-6
        assert (check.status, check.text) == ("set", "1e-06 as in the file, 0.001 before")
        assert (check.attribute, check.value) == ("eps", 1e-6)
        assert [one.status for one in checks_of(settings, [check], has_run=False)] == ["set", "differs"]
    assert norm.eps == 1e-3


def test_outputs_that_agree_settle_what_they_show():
    settings = [described("a", "padding", "unknown", "?"), described("b", "momentum", "differs", "!", is_seen=False),
                described("c", "stride", "agrees", "1")]  # fmt: skip
    assert [one.layer for one in checks_of(settings, [], has_run=True)] == ["b", "c"]
    assert [one.layer for one in checks_of(settings, [], has_run=False)] == ["a", "b", "c"]


def test_causes_name_what_can_be_set():
    settings = [number("n", "epsilon", nn.LayerNorm(3), "eps", 1e-3, is_seen=True), *[
        fixed(f"c{at}", "stride", 1, 2, "mend it") for at in range(5)]]  # fmt: skip
    text = causes_of(settings)
    assert text.startswith("epsilon of 'n': 1e-05 in the module, 0.001 in the file (adapt=True sets it); ")
    assert "; stride of 'c0': 1 in the module, 2 in the file: mend it; " in text
    assert text.endswith("and 2 more")
    assert causes_of([described("b", "momentum", "differs", "!", is_seen=False)]) == ""
