"""Stores what the frozen part of a model computes, and gives it back at memory speed, never to the wrong model."""

from frostline.caching.builders import Together as Together
from frostline.caching.cache import FeatureCache as FeatureCache
from frostline.caching.cache import fill_as_planned as fill_as_planned
from frostline.caching.cached_dataset import CachedDataset as CachedDataset
from frostline.caching.dataset_reader import IS_RANDOM as IS_RANDOM
from frostline.caching.dataset_reader import check_steady as check_steady
from frostline.caching.dataset_state import DatasetState as DatasetState
from frostline.caching.earlier import Earlier as Earlier
from frostline.caching.fill_plan import FillPlan as FillPlan
from frostline.caching.frozen_pass import faster_part as faster_part
from frostline.caching.keys import recipe_key as recipe_key
from frostline.caching.lengths import of_any_length as of_any_length
from frostline.caching.loader import CachedLoader as CachedLoader
from frostline.caching.location import cache_home as cache_home
from frostline.caching.part import Faster as Faster
from frostline.caching.part import FollowsLengths as FollowsLengths
from frostline.caching.part import FrozenPart as FrozenPart
from frostline.caching.proofs import Proofs as Proofs
from frostline.caching.stats import CacheEntry as CacheEntry
from frostline.caching.storage import EXACT as EXACT
from frostline.caching.storage import Storage as Storage
from frostline.caching.storage import check_storage as check_storage
from frostline.caching.views import Views as Views
from frostline.caching.views import viewed as viewed
