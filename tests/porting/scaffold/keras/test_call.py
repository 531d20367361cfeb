import pytest

from frostline.porting.scaffold.keras.call import Call, first, last
from frostline.porting.scaffold.python_text import NotWrittenError

CALL = Call("layer", "Conv2D", {"strides": [2, 1], "groups": "2", "rate": True}, ((1, 8, 8, 3),), (1, 4, 8, 2), ("x",))


def test_settings_are_numbers_or_refused():
    assert CALL.sizes("strides", 1) == (2, 1)
    assert CALL.sizes("dilation_rate", 1) == (1, 1)
    assert CALL.number("depth", 2) == 2
    assert (CALL.width, CALL.rank) == (3, 4)
    for ask in (lambda: CALL.number("groups", 1), lambda: CALL.number("rate", 1), lambda: CALL.sizes("groups", 1)):
        with pytest.raises(NotWrittenError, match=r"layer \(Conv2D\): (groups|rate) "):
            ask()


def test_expressions():
    assert first("x", 4) == "x.movedim(-1, 1)"
    assert last("x", 3) == first("x", 3) == "x"
