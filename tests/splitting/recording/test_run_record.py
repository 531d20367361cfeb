from frostline.splitting.calls.addresses import Frame, Point
from frostline.splitting.recording.run_record import RecorderSettings


def test_inference_mode_has_no_noise_to_quieten():
    settings = RecorderSettings(is_whole=True).but(quiet={Frame("drop", 0): "a line runs in inference mode"})
    assert settings.in_mode(training=True) is settings
    assert settings.in_mode(training=False).quiet == {}
    assert settings.notes() == ("a line runs in inference mode",)


def test_what_is_computed_in_the_head_is_told():
    settings = RecorderSettings(is_whole=True).but(remade=frozenset([Point(Frame("", 0), "mean", 0)]))
    assert settings.notes() == ("mean: depends on the whole batch, and is computed in the head",)
