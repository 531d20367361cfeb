"""The PyTorch counterparts of the exam's networks, by the name of the network."""

from .counterpart import Counterpart as Counterpart
from .table import COUNTERPARTS as COUNTERPARTS
