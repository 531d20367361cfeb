"""How many layers to reuse (lines, pooled features, scores, costs), and many heads over the same rows."""

from frostline.selection.advice import choose as choose
from frostline.selection.candidates import Line as Line
from frostline.selection.candidates import find_lines as find_lines
from frostline.selection.costs import StepTimes as StepTimes
from frostline.selection.costs import step_times as step_times
from frostline.selection.head_settings import HeadSetting as HeadSetting
from frostline.selection.head_settings import read_settings as read_settings
from frostline.selection.heads.choice import make_families as make_families
from frostline.selection.heads.contract import Heads as Heads
from frostline.selection.heads.contract import Ways as Ways
from frostline.selection.line_scores import priced_line as priced_line
from frostline.selection.line_scores import scored_line as scored_line
from frostline.selection.sweep import Course as Course
from frostline.selection.sweep import SweepPlan as SweepPlan
from frostline.selection.sweep import run_sweep as run_sweep
from frostline.selection.taps import INPUTS as INPUTS
from frostline.selection.taps import Taps as Taps
from frostline.selection.targets import Targets as Targets
from frostline.selection.targets import sample_rows as sample_rows
from frostline.selection.targets import targets_from as targets_from
from frostline.selection.variants import OutputLayer as OutputLayer
from frostline.selection.variants import dropout_layers as dropout_layers
from frostline.selection.variants import find_output_layer as find_output_layer
from frostline.selection.variants import hidden_layer as hidden_layer
from frostline.selection.variants import with_dropout as with_dropout
from frostline.selection.variants import with_module as with_module
