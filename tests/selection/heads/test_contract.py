import pytest

from frostline.selection.heads.contract import Heads
from helpers_sweep import settings


def test_heads_know_their_numbers_and_need_every_way():
    with pytest.raises(TypeError, match="abstract"):
        Heads(settings([{}]))

    class Nothing(Heads):
        way = "none"

        def step(self, features, target): ...
        def evaluate(self, features, target): ...
        def state(self, at): ...
        def keep(self, places): ...

    assert Nothing(settings([{}, {}])[1:]).numbers == [1]
