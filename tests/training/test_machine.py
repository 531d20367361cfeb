import logging
import os
import warnings

from frostline.training.machine import log_figures, make_fabric


def test_fabric_is_a_guest_that_leaves_no_trace(tmp_path):
    log = logging.getLogger("lightning_fabric")
    handlers, level = list(log.handlers), log.level
    environment, filters = dict(os.environ), list(warnings.filters)
    make_fabric("32-true", 1, tmp_path)
    assert (list(log.handlers), log.level) == (handlers, level)
    assert dict(os.environ) == environment
    assert warnings.filters == filters
    assert list(tmp_path.iterdir()) == []


def test_logs_go_where_the_run_goes(tmp_path):
    fabric = make_fabric("bf16-mixed", 1, tmp_path)
    assert [str(logger.log_dir) for logger in fabric.loggers] == [str(tmp_path / "logs" / "version_0")]
    assert make_fabric("32-true", 1, None).loggers == []
    assert fabric.world_size == 1


def test_figures_are_written_at_once(tmp_path):
    fabric = make_fabric("32-true", 1, tmp_path)
    for step in (0, 10):
        log_figures(fabric, {"loss": 0.5}, step)
        lines = (tmp_path / "logs" / "version_0" / "metrics.csv").read_text().splitlines()
        assert lines[-1] == f"0.5,{step}"
    log_figures(make_fabric("32-true", 1, None), {"loss": 0.5}, 0)
