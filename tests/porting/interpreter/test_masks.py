import pytest
import torch

from frostline.porting.interpreter.kinds import apply
from frostline.porting.interpreter.layer import Layer, NotInterpretedError
from frostline.porting.interpreter.masks import check_unmasked, mask_after, masked, seen
from frostline.porting.interpreter.network import interpret
from frostline.porting.readers.formats import open_source
from helpers_interpreting import floats, network
from helpers_masks import VERSIONS, stored

LEFT, RIGHT = torch.tensor([[True, True, False]]), torch.tensor([[True, False, False]])


def layer(kind, masks, version=3, rank=3, **config):
    values = tuple(floats(1, 3, 4) if rank == 3 else floats(1, 3) for _ in masks)
    return Layer("one", kind, {"trainable": True, **config}, values, {}, version, tuple(masks))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_branch_gives_what_keras_gives(version):
    path, (ids, values), wanted = stored(version)
    with open_source(path) as (source, _):
        found = interpret(source, (ids, values.double())).outputs
    assert len(found) == len(wanted) == 21
    for (name, expected), made in zip(wanted.items(), found, strict=True):
        assert made.shape == expected.shape, name
        assert float((made - expected).abs().max()) <= 2e-6, name


@pytest.mark.parametrize(("kind", "config", "wanted"), [
    ("Dense", {}, LEFT), ("Dropout", {}, LEFT), ("LSTM", {"return_sequences": True}, LEFT), ("LSTM", {}, None),
    ("Conv1D", {}, None), ("Flatten", {}, None), ("MultiHeadAttention", {}, LEFT),
    ("Bidirectional", {"layer": {"config": {"return_sequences": True}}}, LEFT),
    ("Bidirectional", {"layer": {"config": {}}}, None),
])  # fmt: skip
def test_layers_keep_the_mask_or_lose_it(kind, config, wanted):
    made = mask_after(layer(kind, [LEFT], **config))
    assert made is wanted


def test_only_keras_3_keeps_masks_at_layers_that_prepare():
    assert mask_after(layer("Rescaling", [LEFT], version=3)) is LEFT
    assert mask_after(layer("Rescaling", [LEFT], version=2)) is None
    assert "unknown version" in str(mask_after(layer("Rescaling", [LEFT], version=0)))


def test_masks_are_merged_as_each_version_does():
    assert torch.equal(mask_after(layer("Add", [LEFT, RIGHT], version=3)), LEFT)
    assert torch.equal(mask_after(layer("Add", [LEFT, RIGHT], version=2)), RIGHT)
    assert mask_after(layer("Add", [LEFT, None], version=3)) is None
    assert mask_after(layer("Add", [LEFT, None], version=2)) is LEFT
    assert "unknown version of Keras that differ" in str(mask_after(layer("Add", [LEFT, RIGHT], version=0)))


def test_masks_are_joined_over_time_or_where_they_are_equal():
    joined = mask_after(layer("Concatenate", [LEFT, None], axis=1))
    assert torch.equal(joined, torch.cat([LEFT, torch.ones_like(LEFT)], 1))
    assert torch.equal(mask_after(layer("Concatenate", [LEFT, LEFT.clone()])), LEFT)
    assert torch.equal(mask_after(layer("Concatenate", [LEFT, RIGHT], version=2)), RIGHT)
    assert "join differently" in str(mask_after(layer("Concatenate", [LEFT, RIGHT])))
    assert "other axes than time" in str(mask_after(layer("Concatenate", [LEFT, LEFT], rank=2)))


def test_an_operation_on_tensors_knows_of_no_masks():
    operation = Layer("add", "Add", {}, (floats(1, 3, 4),) * 2, {}, 3, (LEFT, LEFT))
    assert mask_after(operation) is None
    check_unmasked(operation)


@pytest.mark.parametrize("kind", ["Multiply", "Maximum", "Minimum", "Softmax"])
def test_where_versions_treat_padding_differently_it_is_refused(kind):
    with pytest.raises(NotInterpretedError, match="versions of Keras treat differently here"):
        check_unmasked(layer(kind, [LEFT]))
    check_unmasked(layer(kind, [torch.ones_like(LEFT)]))


def test_a_mask_that_is_not_known_is_an_error_where_it_is_needed_only():
    unknown = mask_after(layer("Concatenate", [LEFT, RIGHT]))
    through = mask_after(masked(layer("Dense", [None]), [unknown]))
    assert through is unknown
    assert mask_after(masked(layer("Conv1D", [None]), [unknown])) is None
    with pytest.raises(NotInterpretedError, match="join differently"):
        masked(layer("LSTM", [None]), [unknown])


def test_a_mask_that_a_layer_was_called_with_stands_for_others():
    called = Layer("lstm", "LSTM", {"names": ("", "mask")}, (floats(1, 3, 4), LEFT), {}, 3)
    made = masked(called, [RIGHT, None])
    assert made.masks == (LEFT,)
    assert len(made.inputs) == 1


def test_attentions_of_keras_3_take_the_mask_away_from_what_they_are_given():
    assert seen(LEFT, layer("MultiHeadAttention", [None]), 1) is LEFT
    assert "that an attention takes, too" in str(seen(LEFT, layer("MultiHeadAttention", [None]), 2))
    assert "that an attention takes, too" in str(seen(LEFT, layer("Dense", [None]), 1))
    assert seen(LEFT, layer("Dense", [None], version=2), 1) is LEFT
    assert seen(torch.ones_like(LEFT), layer("Dense", [None]), 1) is not None


def test_a_padding_value_that_is_no_number_is_refused():
    source = network(
        ("in", "InputLayer", {"batch_shape": [None, 3, 2]}, ()), ("m", "Masking", {"mask_value": "a"}, ("in",))
    )
    with pytest.raises(NotInterpretedError, match="mask_value 'a'"):
        interpret(source, (floats(2, 3, 2).double(),))


def test_an_attention_gives_nothing_that_is_known_at_padded_queries():
    path, (ids, values), _ = stored("keras3")
    with open_source(path) as (source, _):
        kept = interpret(source, (ids, values.double()), keeps_layers=True).layers
    assert torch.equal(torch.isnan(kept["attention"]).all(-1), ids == 0)


def test_padding_and_zeros_of_unrolled_layers_are_refused():
    path, (ids, _), _ = stored("keras3")
    with open_source(path) as (source, _):
        (gru,) = (one for one in source.layers if one.name == "gru")
        settings = {**gru.config, "unroll": True}
        weights = {one.leaf: one.load for one in source.tensors if one.unit == "gru"}
        with pytest.raises(NotInterpretedError, match="unroll=True"):
            apply(Layer("gru", "GRU", settings, (floats(4, 6, 4).double(),), weights, 3, (ids != 0,)))
