import pickle

import pytest

import frostline as fl
from frostline.core.errors import nearest


def error(**changed):
    return fl.DataError(**{"what": "W.", "where": "here", "received": "that", "do": "this.", **changed})


def test_an_error_has_four_parts_and_survives_a_process_border():
    assert str(error()) == "W.\nWhere:    here\nReceived: that\nDo:       this."
    again = pickle.loads(pickle.dumps(error()))
    assert (type(again), again.parts()) == (fl.DataError, error().parts())
    with pytest.raises(TypeError):
        fl.DataError(what="W.", where="here", received="that")


def test_nearest_names():
    assert nearest("layr3", ["layer3", "fc"]) == "'layer3'"
    assert nearest("zzz", ["a", "b"]) == "'a', 'b'"
