"""The content of `model.json`."""

import json

import numpy as np
import pytest

from frostline.data import load_arrays
from frostline.recipes.model_facts import model_facts


@pytest.mark.parametrize("settings", [None, {"norm.eps": 1e-3}])
def test_facts_are_json_and_keep_settings_that_belong_to_the_weights(tmp_path, settings):
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 3), np.float32), y=np.arange(4) % 2)
    (tmp_path / "w.json").write_text(json.dumps({"settings": settings} if settings else {}))
    facts = model_facts("m:f", load_arrays(tmp_path / "x.npz"), best_epoch=1, epochs=2, head=None, freeze="auto",
                        metric=("accuracy",), weights=str(tmp_path / "w.safetensors"))  # fmt: skip
    assert facts.get("settings") == settings
    assert json.loads(json.dumps(facts))["input"] == {"shape": [3], "dtype": "float32"}
    assert (facts["classes"], facts["data"], facts["images"], facts["epochs"]) == (("0", "1"), "arrays", None, 2)
