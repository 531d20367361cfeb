"""Recipes: the pillars put together, each to be read from top to bottom, and copied."""

from frostline.recipes.checkup import checkup as checkup
from frostline.recipes.choose_depth import choose_depth as choose_depth
from frostline.recipes.export import export as export
from frostline.recipes.fit import fit as fit
from frostline.recipes.heal import heal as heal
from frostline.recipes.port import port as port
from frostline.recipes.predict import load as load
from frostline.recipes.predict import predict as predict
from frostline.recipes.rank_models import rank_models as rank_models
from frostline.recipes.reuse import reuse as reuse
from frostline.recipes.schedules import FreezeSchedule as FreezeSchedule
from frostline.recipes.schedules import ThawSchedule as ThawSchedule
