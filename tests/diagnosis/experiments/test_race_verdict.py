from dataclasses import replace

import pytest

from frostline.diagnosis import Score
from frostline.diagnosis.experiments.treatments import BATCHNORM
from helpers_race import in_race, race


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True), ({"steps": 5}, False), ({"has_symptom": False}, False), ({"loss": 0.99}, False),
        ({"share": 0.52}, False), ({"name": BATCHNORM}, True), ({"name": BATCHNORM, "is_issue": False}, False),
    ],
)  # fmt: skip
def test_who_leads_at_the_end_of_a_race_must_lead_clearly(changes, expected):
    found = race(lr=0.0)  # the untreated one stays where it is
    loss, share, name = changes.pop("loss", 0.5), changes.pop("share", 0.9), changes.pop("name", "x")
    with found.untreated:
        found.untreated.bring(20)
        for mark, score_ in list(found.untreated.runner.scores.items()):
            found.untreated.runner.scores[mark] = replace(score_, loss=1.0, share=0.5, samples=())
        one = in_race(found, loss, steps=changes.pop("steps", 20), share=share, **changes)
        one.scores = {one.steps: Score(share, loss)}
        one.suspicion = replace(one.suspicion, remedy=replace(one.suspicion.remedy, name=name, key=name))
        found.untreated.bring = lambda _: Score(0.5, 1.0)
        found._verdict.learns = lambda *_, **__: True
        margin = Score.gain_over
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Score, "gain_over", lambda own, other: (margin(own, other)[0], 0.0))
            assert found._verdict.is_ahead_at_last(one) is expected
