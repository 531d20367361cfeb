from frostline.recipes import demo
from frostline.recipes.demo_data import few_per_class, load_digits_task
from frostline.recipes.demo_tables import TOLERANCE


def test_the_two_tasks_share_no_image():
    train, test = load_digits_task(range(5, 10))
    keys = [{data.sample_key(at) for at in range(len(data))} for data in (train, test)]
    assert keys[0].isdisjoint(keys[1])
    assert train.inputs.shape[1:] == (1, 32, 32)
    assert few_per_class(train, 5, 0).labels.bincount().tolist() == [5] * 5


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
