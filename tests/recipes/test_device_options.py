from types import SimpleNamespace

import pytest

import frostline as fl
from frostline.recipes.device_options import check_devices

NONE = {"cache": True, "freeze": None, "thaw": None, "monitor": True, "frozen_pass": None}


@pytest.mark.parametrize(
    "given", [{"cache": "auto"}, {"freeze": "auto"}, {"freeze": "converged"}, {"freeze": {3: "layer"}},
              {"thaw": "plateau"}, {"monitor": "heal"}, {"frozen_pass": "fold"},
              {"cache": SimpleNamespace(engine="ray")}], ids=str,
)  # fmt: skip
def test_what_follows_from_times_or_trains_in_one_process_is_refused(given):
    with pytest.raises(fl.DataError, match="cannot be used like this with several devices"):
        check_devices(2, {**NONE, **given})
    check_devices(1, {**NONE, **given})


def test_a_line_and_a_folder_are_taken():
    check_devices(2, {**NONE, "freeze": "layer3", "cache": "features"})
