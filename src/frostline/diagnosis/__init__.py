"""Measures gradients and activations while a model trains, and judges them."""

from frostline.diagnosis.experiments.score import Score as Score
from frostline.diagnosis.experiments.score import score as score
from frostline.diagnosis.experiments.trial import Course as Course
from frostline.diagnosis.experiments.trial import Patient as Patient
from frostline.diagnosis.experiments.trial import train as train
from frostline.diagnosis.monitor.evidence import facts_of_input as facts_of_input
from frostline.diagnosis.monitor.monitor import Monitor as Monitor
from frostline.diagnosis.monitor.streaming import JsonLines as JsonLines
from frostline.diagnosis.probes.loss import probe_loss as probe_loss
from frostline.diagnosis.rules.judge import all_of as all_of
from frostline.diagnosis.rules.judge import diagnosis_of as diagnosis_of
from frostline.diagnosis.rules.judge import judge as judge
from frostline.diagnosis.rules.judge import judge_loop as judge_loop
from frostline.diagnosis.rules.records import Evidence as Evidence
from frostline.diagnosis.rules.records import InputFacts as InputFacts
from frostline.diagnosis.rules.records import LossFacts as LossFacts
from frostline.diagnosis.rules.records import NormFacts as NormFacts
