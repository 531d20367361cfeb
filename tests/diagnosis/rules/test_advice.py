import pytest
from torch import nn

from frostline import remedies
from frostline.diagnosis.rules import advice


@pytest.mark.parametrize("text", [advice.DRAW_ALL, advice.draw("fc1"), advice.draw(advice.ROOT)])
def test_drawing_anew_says_what_is_drawn_and_keeps_the_optimizer(text):
    assert "layers='fc1'" in text or "include_pretrained=True" in text
    assert "optimizer=optimizer" in text


def test_what_erases_all_weights_is_for_layers_that_have_learnt_nothing():
    assert advice.DRAW_ALL.startswith("if no layer is trained yet")


def test_leaky_units_take_the_place_of_relus():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    call = advice.LEAKY.partition("fl.")[2]
    eval(call, {"remedies": remedies, "model": model})
    assert isinstance(model[1], nn.LeakyReLU)
