"""A race of a small network, and treatments that take part in it."""

from dataclasses import replace

from torch.nn import functional as F

from frostline.diagnosis import Patient, Score
from frostline.diagnosis.experiments.race import Race
from frostline.diagnosis.experiments.runner import Runner
from helpers_health import mlp, sgd, task

LEG = 10


def race(model=None, data=None, *, start=0, legs=4, lr=0.1, **options):
    model, data = model or mlp(), data or task(80)
    return Race(
        Patient(model, sgd(model, lr=lr)), data[:-10], data[-10:], F.cross_entropy, start=start, leg=LEG, legs=legs,
        **options,
    )  # fmt: skip


def ran(*args, **options):
    found = race(*args, **options)
    return found, found.run()


def suspected(found, *, factor=1.0, **options):
    """A treatment that sets the rate to `factor` of it, suspected for what `options` say."""
    suspicion = found.seen.rates(both=True)[0][0]

    def apply(patient, _):
        for group in patient.optimizer.param_groups:
            group["lr"] *= factor

    remedy = replace(suspicion.remedy, apply=apply, name=f"times {factor}", key=f"times {factor}")
    return replace(suspicion, **{"remedy": remedy, "is_issue": True, "has_symptom": True, **options})


def in_race(found, loss, *, steps=LEG, share=0.5, lead=0.5, **options):
    """One that has come so far, with this score."""
    one = Runner(found._patient.copy(), suspected(found, **options), steps=steps)
    one.scores[steps] = Score(share, loss, skill=0.5, lead=lead)
    found.runners.append(one)
    return one
