from frostline.recipes import demo
from frostline.recipes.demo_tables import TOLERANCE


def test_the_demo_in_small(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "SEEDS", (0,))
    monkeypatch.setattr(demo, "EPOCHS", {5: 4, None: 3})
    result = demo.run_demo(tmp_path)
    assert result.largest_difference <= TOLERANCE
    assert result.frozen_share > 0.9
    uncached, cached = result.by_time[1:]
    assert uncached.losses == cached.losses
    assert (tmp_path / "result.json").exists()
    assert (tmp_path / "model" / "model.safetensors").exists()
    text = result.text()
    assert "the trained weights are the same" in text
    assert "frostline fit" in text
