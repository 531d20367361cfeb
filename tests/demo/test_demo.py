import dataclasses
import json

from frostline.demo import demo, sick_network
from frostline.demo.reuse_tables import TOLERANCE, DataRow


def test_the_demo_in_small(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "SEEDS", (0,))
    monkeypatch.setattr(demo, "EPOCHS", {5: 4, None: 3})
    monkeypatch.setattr(sick_network, "EPOCHS", 1)
    result = demo.run_demo(tmp_path)
    assert result.largest_difference <= TOLERANCE
    assert [row.convolutions for row in result.by_share] == [2, 4, 6]
    assert result.by_share[-1].frozen_share > 0.9
    shares = [row.frozen_share for row in result.by_share]
    assert shares == sorted(shares)
    uncached, cached = result.by_time[1:]
    assert uncached.losses == cached.losses
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["health"]["cause"] == "vanishing"
    assert written["health"]["healed"]["accuracy"] > written["health"]["sick"]["accuracy"]
    assert (tmp_path / "model" / "model.safetensors").exists()
    text = result.text()
    places = [text.index(f"{act}. ") for act in (1, 2, 3)]
    assert places[0] < text.index("Cured by") < places[1] < places[2]
    assert written["port"]["ported"] > 0.97
    assert "the trained weights are the same" in text
    assert "frostline fit" in text
    assert "6 convolutions" in text
    told = [
        dataclasses.replace(result, by_data=(DataRow(5, 25, (0.3, 0.5), reused),)).text() for reused in ((0.6,), (0.3,))
    ]
    assert "0.400     0.600    +0.200" in told[0]
    assert ["freeze fewer of them" in own for own in told] == [False, True]
