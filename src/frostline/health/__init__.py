"""Measures gradients and activations while a model trains, and judges them."""

from frostline.health.judging import diagnosis_of as diagnosis_of
from frostline.health.judging import judge as judge
from frostline.health.monitor import Monitor as Monitor
from frostline.health.records import Evidence as Evidence
