"""Reuse pretrained layers: freeze and thaw them, replace the head, take them from another network."""

from frostline.transfer.freezing import freeze as freeze
from frostline.transfer.freezing import keep_statistics as keep_statistics
from frostline.transfer.freezing import thaw as thaw
from frostline.transfer.heads import replace_head as replace_head
from frostline.transfer.promise import FrozenState as FrozenState
from frostline.transfer.promise import check_places as check_places
from frostline.transfer.promise import check_promise as check_promise
from frostline.transfer.promise import check_still as check_still
from frostline.transfer.promise import kept_freeze as kept_freeze
from frostline.transfer.promise import passing_freeze as passing_freeze
from frostline.transfer.reusing import reuse as reuse
