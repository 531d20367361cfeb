import json
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from frostline.core.records import Finding, Treatment
from frostline.demo import sick_network
from frostline.demo.sick_network_tables import Course, HealthAct


def course(name, accuracy, gradient=1.0):
    return Course(name, (("conv1", gradient), ("head", 1.0)), accuracy, 0.5, 40, 1.5)


FOUND = Finding("FL101", "vanishing gradients", "vanishing", "conv1", "issue", 1e-8, 1e-3, "1e-08 of that.", "Use ELU.")
KEPT = Treatment("Leaky ReLU", "vanishing", True, 0.2, (), "kept")
LOST = Treatment("new weights", "vanishing", False, math.nan, (), "rolled back")
ACT = HealthAct(course("sick", 0.1, 1e-8), course("healed", 0.9), course("built right", 0.95), (FOUND,), "vanishing",
                (LOST, KEPT), 2.3, 4.2)  # fmt: skip


def lines_with(text, start):
    return [line for line in text.splitlines() if line.strip().startswith(start)]


def test_it_says_what_was_found_the_evidence_the_cure_and_the_proof():
    text = ACT.text()
    assert "FL101 issue: vanishing gradients in conv1" in text
    assert "The cause: vanishing." in text
    (first,) = lines_with(text, "conv1")
    assert first.split()[1:] == ["1e-08", "1e+00", "#" * 20, "1e+00", "#" * 20]
    assert lines_with(text, "Leaky ReLU")[0].split() == ["Leaky", "ReLU", "0.200", "kept"]
    assert lines_with(text, "new weights")[0].split() == ["new", "weights", "nan", "rolled", "back"]
    assert "Cured by Leaky ReLU: accuracy 0.900 instead of 0.100; a twin that was built right reaches 0.950." in text
    assert text.isascii()


def test_it_claims_no_cure_that_was_not_seen():
    worse = replace(ACT, healed=course("healed", 0.1))
    assert not worse.is_cured
    assert "NOT CURED: Leaky ReLU was kept, but accuracy is 0.100 against 0.100." in worse.text()
    none = replace(ACT, trials=(LOST,), cause=None, found=())
    assert "NOT CURED: no treatment helped." in none.text()
    assert "none that a trial could prove" in none.text()
    assert "Nothing was found." in none.text()


def test_gradients_that_are_nothing_have_no_bar():
    gone = replace(ACT, sick=course("sick", 0.1, 0.0), healed=replace(ACT.healed, gradients=(("head", 2.0),)))
    (first,) = lines_with(gone.text(), "conv1")
    assert first.split()[:2] == ["conv1", "0e+00"]
    assert "#" not in first.split("1e+00")[0]


def test_the_act_on_real_scans(tmp_path, monkeypatch):
    monkeypatch.setattr(sick_network, "EPOCHS", 2)
    threads = torch.get_num_threads()
    said = []
    act = sick_network.run_health_act(tmp_path, said.append)
    assert torch.get_num_threads() == threads
    assert act.cause == "vanishing"
    assert act.is_cured
    assert act.sick.accuracy < 0.3 < 0.8 < act.healed.accuracy
    assert act.right.accuracy > 0.8
    assert act.sick.steps == act.healed.steps == act.right.steps
    ratios = [min(g for _, g in c.gradients) / max(g for _, g in c.gradients) for c in (act.sick, act.healed)]
    assert ratios[0] < 1e-5 < 1e-3 < ratios[1]
    assert [len(c.gradients) for c in (act.sick, act.healed, act.right)] == [9, 9, 9]
    assert len(said) == 2
    records = (tmp_path / "healed" / "health.jsonl").read_text().splitlines()
    assert json.loads(records[0])["layers"]


@pytest.mark.parametrize("is_he", [True, False])
def test_the_twins_differ_in_nothing_but_activation_and_weights(is_he):
    model = sick_network.build_deep(nn.ELU if is_he else nn.Sigmoid, is_he=is_he)
    assert [p.shape for p in model.parameters()] == [p.shape for p in sick_network.build().parameters()]
    assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 10)
