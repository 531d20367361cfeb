"""Stores what the frozen part of a model computes, and gives it back at memory speed, never to the wrong model.

`cache.py` is the whole: the folder of a cache, and what can be done with it. Below it, imports go downwards only:

    fill       computes what is missing and proves it     upkeep     lists, evicts, forgets
    reading    batches from stored rows                   location   where recipes lie: on this disk, or in a store
    samples    what a dataset gives                       store      the files of one recipe
    keys.py    identities of recipes and samples          part.py    what a frozen part must offer
"""

from frostline.caching.cache import FeatureCache as FeatureCache
from frostline.caching.cache import holds_rows as holds_rows
from frostline.caching.fill.builders import Builders as Builders
from frostline.caching.fill.builders import Together as Together
from frostline.caching.fill.earlier import Earlier as Earlier
from frostline.caching.fill.fill_plan import FillPlan as FillPlan
from frostline.caching.fill.frozen_pass import Computer as Computer
from frostline.caching.fill.frozen_pass import faster_part as faster_part
from frostline.caching.fill.planned_fill import builders_of as builders_of
from frostline.caching.fill.planned_fill import fill_as_planned as fill_as_planned
from frostline.caching.fill.ray_builders import sent as sent
from frostline.caching.fill.row_proof import prove_some_rows as prove_some_rows
from frostline.caching.keys import recipe_key as recipe_key
from frostline.caching.location.location import cache_home as cache_home
from frostline.caching.part import ChecksBatches as ChecksBatches
from frostline.caching.part import Faster as Faster
from frostline.caching.part import FollowsLengths as FollowsLengths
from frostline.caching.part import FrozenPart as FrozenPart
from frostline.caching.part import items_of as items_of
from frostline.caching.reading.cached_dataset import CachedDataset as CachedDataset
from frostline.caching.reading.cached_dataset import first_view as first_view
from frostline.caching.reading.loader import CachedLoader as CachedLoader
from frostline.caching.samples.collation import Collated as Collated
from frostline.caching.samples.dataset_reader import IS_RANDOM as IS_RANDOM
from frostline.caching.samples.dataset_reader import check_steady as check_steady
from frostline.caching.samples.dataset_state import DatasetState as DatasetState
from frostline.caching.samples.dataset_state import HeldGenerators as HeldGenerators
from frostline.caching.samples.lengths import of_any_length as of_any_length
from frostline.caching.samples.views import Views as Views
from frostline.caching.samples.views import viewed as viewed
from frostline.caching.store.proofs import Proofs as Proofs
from frostline.caching.store.storage_type import EXACT as EXACT
from frostline.caching.store.storage_type import Storage as Storage
from frostline.caching.store.storage_type import as_loaded as as_loaded
from frostline.caching.store.storage_type import check_storage as check_storage
from frostline.caching.upkeep.stats import CacheEntry as CacheEntry
