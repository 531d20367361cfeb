"""Measures what to train: many heads over the same stored rows."""

from frostline.selection.closed_form import LinearSolution as LinearSolution
from frostline.selection.closed_form import solve_linear_head as solve_linear_head
from frostline.selection.head_settings import SOLVED as SOLVED
from frostline.selection.head_settings import HeadSetting as HeadSetting
from frostline.selection.head_settings import read_settings as read_settings
from frostline.selection.heads.choice import make_families as make_families
from frostline.selection.heads.contract import Heads as Heads
from frostline.selection.heads.contract import Ways as Ways
from frostline.selection.heads.looped import LoopedHeads as LoopedHeads
from frostline.selection.sweep import Course as Course
from frostline.selection.sweep import SweepPlan as SweepPlan
from frostline.selection.sweep import run_sweep as run_sweep
from frostline.selection.variants import OutputLayer as OutputLayer
from frostline.selection.variants import dropout_layers as dropout_layers
from frostline.selection.variants import find_output_layer as find_output_layer
from frostline.selection.variants import hidden_layer as hidden_layer
from frostline.selection.variants import with_dropout as with_dropout
from frostline.selection.variants import with_module as with_module
