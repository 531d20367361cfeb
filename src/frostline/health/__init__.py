"""Measures gradients and activations while a model trains, and judges them."""

from frostline.health.evidence import facts_of_input as facts_of_input
from frostline.health.judging import all_of as all_of
from frostline.health.judging import diagnosis_of as diagnosis_of
from frostline.health.judging import judge as judge
from frostline.health.monitor import Monitor as Monitor
from frostline.health.probing import probe_loss as probe_loss
from frostline.health.records import Evidence as Evidence
from frostline.health.records import InputFacts as InputFacts
from frostline.health.records import LossFacts as LossFacts
from frostline.health.records import NormFacts as NormFacts
from frostline.health.scoring import Score as Score
from frostline.health.scoring import score as score
from frostline.health.trials import Course as Course
from frostline.health.trials import Patient as Patient
from frostline.health.trials import train as train
