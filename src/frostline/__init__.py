"""Frostline: reuse pretrained layers, run the frozen ones once per training instance, train the rest."""

from frostline import data as data
from frostline import remedies as remedies
from frostline.caching import CachedDataset as CachedDataset
from frostline.caching import FeatureCache as FeatureCache
from frostline.core.errors import AmbiguousPortError as AmbiguousPortError
from frostline.core.errors import CacheError as CacheError
from frostline.core.errors import DataError as DataError
from frostline.core.errors import FrostlineError as FrostlineError
from frostline.core.errors import LayerNotFound as LayerNotFound
from frostline.core.errors import NotCacheable as NotCacheable
from frostline.core.errors import PortError as PortError
from frostline.core.errors import SplitError as SplitError
from frostline.core.records import Diagnosis as Diagnosis
from frostline.core.records import Finding as Finding
from frostline.core.records import FitResult as FitResult
from frostline.core.records import FreezeSummary as FreezeSummary
from frostline.core.records import FrontierTensor as FrontierTensor
from frostline.core.records import Healing as Healing
from frostline.core.records import ReuseSummary as ReuseSummary
from frostline.core.selection_records import DepthReport as DepthReport
from frostline.core.selection_records import SweepResult as SweepResult
from frostline.diagnosis import Monitor as Monitor
from frostline.porting import Certificate as Certificate
from frostline.recipes import FreezeSchedule as FreezeSchedule
from frostline.recipes import ThawSchedule as ThawSchedule
from frostline.recipes import checkup as checkup
from frostline.recipes import choose_depth as choose_depth
from frostline.recipes import export as export
from frostline.recipes import fit as fit
from frostline.recipes import heal as heal
from frostline.recipes import load as load
from frostline.recipes import port as port
from frostline.recipes import predict as predict
from frostline.recipes import rank_models as rank_models
from frostline.recipes import reuse as reuse
from frostline.recipes import sweep as sweep
from frostline.splitting import Split as Split
from frostline.splitting import split as split
from frostline.transfer import freeze as freeze
from frostline.transfer import replace_head as replace_head
from frostline.transfer import thaw as thaw

__all__ = [
    "AmbiguousPortError",
    "CacheError",
    "CachedDataset",
    "Certificate",
    "DataError",
    "DepthReport",
    "Diagnosis",
    "FeatureCache",
    "Finding",
    "FitResult",
    "FreezeSchedule",
    "FreezeSummary",
    "FrontierTensor",
    "FrostlineError",
    "Healing",
    "LayerNotFound",
    "Monitor",
    "NotCacheable",
    "PortError",
    "ReuseSummary",
    "Split",
    "SplitError",
    "SweepResult",
    "ThawSchedule",
    "checkup",
    "choose_depth",
    "data",
    "export",
    "fit",
    "freeze",
    "heal",
    "load",
    "port",
    "predict",
    "rank_models",
    "remedies",
    "replace_head",
    "reuse",
    "split",
    "sweep",
    "thaw",
]
