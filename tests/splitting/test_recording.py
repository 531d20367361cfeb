from frostline.splitting.points import Frame, Point
from frostline.splitting.recording import Decided


def test_inference_mode_has_no_noise_to_quieten():
    decided = Decided(is_whole=True).but(quiet={("drop", 0): "a line runs in inference mode"})
    assert decided.in_mode(training=True) is decided
    assert decided.in_mode(training=False).quiet == {}
    assert decided.notes() == ("a line runs in inference mode",)


def test_what_is_computed_in_the_head_is_told():
    decided = Decided(is_whole=True).but(remade=frozenset([Point(Frame("", 0), "mean", 0)]))
    assert decided.notes() == ("mean: depends on the whole batch, and is computed in the head",)
