"""Scores of features by targets: one contract, one file for each score."""

from frostline.selection.scores.contract import Features as Features
from frostline.selection.scores.contract import Score as Score
from frostline.selection.scores.contract import Scored as Scored
from frostline.selection.scores.contract import resamples as resamples
from frostline.selection.scores.effective_rank import effective_rank as effective_rank
from frostline.selection.scores.hscore import hscore as hscore
from frostline.selection.scores.hscore import regularized_hscore as regularized_hscore
from frostline.selection.scores.logme import logme as logme
from frostline.selection.scores.neighbours import neighbours as neighbours
from frostline.selection.scores.probe import probe as probe
from frostline.selection.scores.reach import Reach as Reach
from frostline.selection.scores.reach import reaches as reaches
