from torch import nn

from frostline.porting.readers.contract import SourceLayer
from frostline.porting.settings.setting import causes_of, checks_of
from frostline.porting.settings.whole import of_network, of_roundings


def found(layers, *modules):
    listed = [SourceLayer(f"f{at}", kind, config) for at, (kind, config) in enumerate(layers)]
    return [
        (one.check.layer, one.check.setting, one.check.status) for one in of_network(listed, nn.Sequential(*modules))
    ]


def test_rates_of_dropout():
    half = ("Dropout", {"rate": 0.5})
    assert found([half, half], nn.Dropout(0.5), nn.Dropout(0.1)) == [
        ("0", "dropout", "agrees"),
        ("1", "dropout", "differs"),
    ]
    assert found([half, ("Dropout", {"rate": 0.1})], nn.Dropout(0.5), nn.Dropout(0.1)) == [
        ("the network", "dropout", "agrees")]  # fmt: skip
    assert found([half, ("Dropout", {"rate": 0.1})], nn.Dropout(0.1), nn.Dropout(0.5)) == [
        ("the network", "dropout", "unknown")]  # fmt: skip
    assert found([half]) == [("the network", "dropout", "unknown")]
    assert found([]) == []


def test_slopes_and_the_kind_of_gelu():
    assert found([("LeakyReLU", {})], nn.LeakyReLU(0.3)) == [("0", "slope", "agrees")]
    assert found([("LeakyReLU", {"alpha": 0.1})], nn.LeakyReLU()) == [("0", "slope", "differs")]
    assert found([("LeakyReLU", {})]) == []
    assert found([("ELU", {"alpha": 0.5})], nn.ELU()) == [("0", "alpha", "differs")]
    assert found([("ELU", {}), ("Dense", {"activation": "elu"})], nn.ELU(), nn.ELU()) == [
        ("0", "alpha", "agrees"),
        ("1", "alpha", "agrees"),
    ]
    assert found([("Dense", {"activation": "gelu"})], nn.GELU("tanh"), nn.GELU()) == [("0", "GELU", "differs")]


def test_masks_stay_unknown_whatever_the_outputs_say():
    marking = [("Embedding", {"mask_zero": True}), ("Masking", {"mask_value": 0.0}), ("Embedding", {})]
    assert found(marking, nn.Embedding(3, 2)) == [("f0", "mask_zero", "unknown"), ("f1", "mask_value", "unknown")]
    settings = [*of_network([SourceLayer("ids", *marking[0])], nn.Embedding(3, 2))]
    (check,) = checks_of(settings, (), has_run=True)
    assert check.text == "the network of the file skips padded steps: the module must skip them, too"
    assert causes_of(settings).startswith("mask_zero of 'ids': the network of the file skips padded steps")


def test_preparation_of_inputs_and_the_variance_of_batch_norm():
    assert found([("Rescaling", {"scale": 0.5})]) == [("f0", "preparation of inputs", "unknown")]
    assert found([("BatchNormalization", {})], nn.BatchNorm1d(3)) == [("0", "variance in training", "differs")]


def test_values_that_a_graph_rounds_to_integers_are_named_as_a_cause():
    listed = [SourceLayer(name, kind) for name, kind in (("a", "MatMul"), ("b", "QuantizeLinear"), ("c", "Relu"))]
    (one,) = of_roundings(listed)
    assert one.check.status == "unknown"
    assert "rounds values to int8 or uint8 in 1 places (b, ...)" in causes_of([one])
    assert list(of_roundings(listed[::2])) == []
