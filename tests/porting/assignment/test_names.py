import pytest

from frostline.porting.assignment.names import likeness, tokens


def best(sources, targets):
    rows = likeness(sources, targets)
    return [targets[row.index(max(row))] if max(row) else None for row in rows]


@pytest.mark.parametrize(("name", "found"), [
    ("conv2_block1_3_conv", ("conv", 2, 1, 3, "conv")), ("layer1.0.downsample.1", (1, 0, "downsample", 1)),
    ("encoder/layers_10/selfAttention/query", ("encoder", 10, "attention", "query")), ("x.q_proj", ("x", "query")),
    ("rnn:l0_reverse", (0, "reverse")), ("both/backward", ("both", "reverse")),
])  # fmt: skip
def test_words_by_meaning_and_numbers(name, found):
    assert tokens(name) == found


def test_a_shortcut_is_told_from_the_convolution_of_the_same_shape():
    sources = ["conv2_block1_0_conv", "conv2_block1_3_conv", "conv2_block2_3_conv"]
    assert best(sources, ["layer1.0.conv3", "layer1.0.downsample.0", "layer1.1.conv3"]) == [
        "layer1.0.downsample.0", "layer1.0.conv3", "layer1.1.conv3",
    ]  # fmt: skip


@pytest.mark.parametrize(("sources", "targets"), [
    (["z_mean", "z_log_var"], ["mu", "logvar"]), (["objects/class", "objects/box"], ["head.cls", "head.bbox"]),
    (["attention/query", "mlp/query"], ["attn.q", "ffn.q"]),
])  # fmt: skip
def test_words_of_one_meaning(sources, targets):
    rows = likeness(sources, targets)
    assert rows[0][0] > 0.4
    assert rows[0][0] > rows[0][1] + 0.15
    assert best(sources, targets)[0] == targets[0]


def test_numbers_may_begin_elsewhere_and_are_no_letters():
    assert best([f"block_{i}" for i in (1, 2, 10)], [f"blocks.{i}" for i in (0, 1, 9)]) == [
        "blocks.0",
        "blocks.1",
        "blocks.9",
    ]


def test_numbers_at_other_distances_say_nothing():
    assert best(["dense_7", "dense_9"], ["m17", "m83"]) == [None, None]


def test_numbers_that_only_some_names_have_say_nothing():
    assert best(["dense", "dense_1"], ["a.0", "a.1"]) == [None, None]
