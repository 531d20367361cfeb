import subprocess
import sys

import pytest

from frostline.health.records import Layer


@pytest.mark.parametrize(
    ("kind", "has_weights"),
    [("linear", True), ("convolution", True), ("recurrent", True), ("attention", True), ("embedding", False),
     ("norm", False), ("activation", False), ("other", False)],
)  # fmt: skip
def test_layers_that_map_features_to_features_pass_gradients_on(kind, has_weights):
    assert Layer("fc", kind, "", 0, False, False).has_weights is has_weights


def test_rules_and_records_read_files_of_others_without_torch():
    from frostline.health import records
    from frostline.health.rules import reading

    for module in (records, reading):
        assert "torch" not in vars(module)
    assert subprocess.run([sys.executable, "-c", "import frostline.core.errors"], check=True).returncode == 0
