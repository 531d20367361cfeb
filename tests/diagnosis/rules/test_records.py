import pytest

from frostline.diagnosis.rules.records import Layer


@pytest.mark.parametrize(
    ("kind", "has_weights"),
    [("linear", True), ("convolution", True), ("recurrent", True), ("attention", True), ("embedding", False),
     ("norm", False), ("activation", False), ("other", False)],
)  # fmt: skip
def test_layers_that_map_features_to_features_pass_gradients_on(kind, has_weights):
    assert Layer("fc", kind, "", 0, False, False).has_weights is has_weights
