"""How many layers to reuse: lines of a model, pooled features at all of them, scores, costs, and the choice."""

from frostline.selection.advice import choose as choose
from frostline.selection.candidates import Line as Line
from frostline.selection.candidates import find_lines as find_lines
from frostline.selection.costs import StepTimes as StepTimes
from frostline.selection.costs import step_times as step_times
from frostline.selection.line_scores import priced_line as priced_line
from frostline.selection.line_scores import scored_line as scored_line
from frostline.selection.taps import INPUTS as INPUTS
from frostline.selection.taps import Taps as Taps
from frostline.selection.targets import Targets as Targets
from frostline.selection.targets import sample_rows as sample_rows
from frostline.selection.targets import targets_from as targets_from
