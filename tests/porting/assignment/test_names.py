import pytest

from frostline.porting.assignment.names import is_crossed, similarities, tokens


def best(sources, targets):
    rows = similarities(sources, targets)
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
    rows = similarities(sources, targets)
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


def test_words_may_speak_for_another_order_of_the_numbers():
    units = [f"u{block}_c{conv}" for block in (0, 1) for conv in (1, 2)]
    lists = [f"conv{conv}.{block}" for conv in (1, 2) for block in (0, 1)]
    assert is_crossed(units, lists)
    assert is_crossed([name.replace("c", "n") for name in units], [name.replace("conv", "norm") for name in lists])
    assert not is_crossed(units, [f"blocks.{block}.conv{conv}" for block in (0, 1) for conv in (1, 2)])
    assert not is_crossed(units, [f"a{one}.{other}" for one in (1, 2) for other in (0, 1)])  # no word speaks
    assert not is_crossed(["a0_c1", "a0_c2", "a1_c1", "a1_c2", "a2_c1", "a2_c2"],
                          [f"conv{block}.{conv}" for block in range(3) for conv in range(2)])  # fmt: skip
    assert not is_crossed(["c1", "c2"], ["conv0", "conv1"])
