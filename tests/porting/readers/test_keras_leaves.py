import pytest

from frostline.porting.readers.keras_leaves import is_known, leaves, leaves_by_shape, snake_case


@pytest.mark.parametrize(
    ("kind", "count", "config", "wanted"),
    [
        ("dense", 2, None, ("kernel", "bias")),
        ("dense", 1, {"use_bias": False}, ("kernel",)),
        ("depthwise_conv2d", 2, None, ("depthwise_kernel", "bias")),
        ("separable_conv1d", 2, None, ("depthwise_kernel", "pointwise_kernel")),
        ("gru", 3, {}, ("kernel", "recurrent_kernel", "bias")),
        ("batch_normalization", 4, None, ("gamma", "beta", "moving_mean", "moving_variance")),
        ("batch_normalization", 3, {"center": False}, ("gamma", "moving_mean", "moving_variance")),
        ("batch_normalization", 2, None, ("moving_mean", "moving_variance")),
        ("batch_normalization", 3, None, ("", "", "")),
        ("layer_normalization", 1, None, ("",)),
        ("layer_normalization", 1, {"rms_scaling": True}, ("gamma",)),
        ("layer_normalization", 1, {"scale": False}, ("beta",)),
        ("attention", 1, None, ("scale",)),
        ("p_re_lu", 1, None, ("alpha",)),
        ("my_layer", 2, {}, ("", "")),
        ("dense", 5, None, ("",) * 5),
        ("dense", 2, {"use_bias": False}, ("", "")),
    ],
)
def test_leaves_follow_from_class_count_and_settings(kind, count, config, wanted):
    assert leaves(kind, count, config) == wanted


def test_batch_renormalization_has_seven():
    names = leaves("batch_normalization", 7, {"renorm": True})
    assert names[4:] == ("moving_stddev", "renorm_mean", "renorm_stddev")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("Conv2DTranspose", "conv2d_transpose"), ("PReLU", "p_re_lu"), ("LSTM", "lstm"), ("SimpleRNN", "simple_rnn")],
)
def test_classes_are_written_in_snake_case(name, wanted):
    assert snake_case(name) == wanted
    assert is_known(wanted)


@pytest.mark.parametrize(
    ("shapes", "wanted"),
    [
        ([(5, 3), (3,)], ("kernel", "bias")),
        ([(3, 3, 4, 6), (6,)], ("kernel", "bias")),
        ([(6,)] * 4, ("gamma", "beta", "moving_mean", "moving_variance")),
        ([(6,)] * 2, ("", "")),
        ([(5, 3)], ("",)),
        ([(3, 5), (3,)], ("", "")),
        ([(3,), (5, 3)], ("", "")),
        ([(6,), (6,), (6,), (5,)], ("",) * 4),
    ],
)
def test_leaves_of_a_class_that_is_not_in_the_file_follow_from_shapes(shapes, wanted):
    assert leaves_by_shape(shapes) == wanted
