import errno
import logging
import os
import warnings

import pytest
import torch

import frostline as fl
from frostline.training.fabric import as_loggers, has_scale, import_fabric, log_figures, make_fabric, unscale
from helpers_fit import data, fit, mlp


def test_fabric_is_a_guest_that_leaves_no_trace(tmp_path):
    log = logging.getLogger("lightning_fabric")
    handlers, level = list(log.handlers), log.level
    environment, filters = dict(os.environ), list(warnings.filters)
    import_fabric()
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


def test_float16_is_float16_on_a_cpu_too():
    fabric = make_fabric("16-mixed", 1, None)
    assert fabric.strategy.precision.precision == "16-mixed"
    assert has_scale(fabric)
    assert not has_scale(make_fabric("bf16-mixed", 1, None))
    with fabric.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float16


def test_an_optimizer_that_unscales_by_itself_is_refused():
    fabric = make_fabric("16-mixed", 1, None)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))], fused=True)
    with pytest.raises(fl.DataError, match="unscales gradients inside of its step") as error:
        unscale(fabric, optimizer)
    assert (error.value.received, "fused=True" in error.value.do) == ("AdamW", True)
    unscale(make_fabric("32-true", 1, None), optimizer)


def test_figures_are_written_at_once(tmp_path):
    fabric = make_fabric("32-true", 1, tmp_path)
    for step in (0, 10):
        log_figures(fabric, {"loss": 0.5}, step)
        lines = (tmp_path / "logs" / "version_0" / "metrics.csv").read_text().splitlines()
        assert lines[-1] == f"0.5,{step}"
    log_figures(make_fabric("32-true", 1, None), {"loss": 0.5}, 0)


@pytest.mark.parametrize("is_at_header", [True, False])
def test_a_full_disk_is_told_and_keeps_what_was_logged(tmp_path, monkeypatch, is_at_header):
    fabric = make_fabric("32-true", 1, tmp_path)
    log_figures(fabric, {"loss": 1.0}, 0)
    files = [path for path in tmp_path.rglob("metrics.csv")]
    before = files[0].read_bytes()

    def fail(self, *_):
        if is_at_header:
            files[0].write_bytes(b"")  # the logger writes the file anew, and the disk is full
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(fabric.loggers[0].experiment), "save", fail)
    with pytest.raises(fl.CacheError, match="Cannot write the logs") as error:
        log_figures(fabric, {"other": 2.0} if is_at_header else {"loss": 2.0}, 1)
    assert "free some space" in error.value.do
    assert files[0].read_bytes() == before


class Own:
    """A logger in its smallest form."""

    def __init__(self):
        self.rows = []

    def log_metrics(self, figures, step):
        self.rows.append((step, dict(figures)))


def test_any_logger_gets_what_the_csv_file_gets(tmp_path):
    own = Own()
    fit(mlp(), val=data(20), freeze="2", epochs=2, batch_size=16, out=tmp_path, logger=[own])
    assert [step for step, row in own.rows if "train_loss" in row] == [3, 6]
    assert {"train_loss", "val_loss", "val_accuracy", "lr", "epoch", "elapsed_s"} <= {*own.rows[0][1], *own.rows[1][1]}
    assert any("7/gradient_norm" in row for _, row in own.rows)  # the monitor's
    csv = (tmp_path / "logs" / "version_0" / "metrics.csv").read_text()
    assert len(csv.splitlines()) == 1 + len(own.rows)
    alone = Own()
    fit(mlp(), freeze="2", epochs=1, cache=False, logger=alone)
    assert alone.rows


def test_tensorboard_by_name_writes_into_the_run(tmp_path):
    fit(mlp(), freeze="2", epochs=2, out=tmp_path, logger="tensorboard")
    (events,) = (tmp_path / "tensorboard" / "version_0").iterdir()
    assert b"train_loss" in events.read_bytes()
    fit(mlp(), freeze="2", epochs=1, out=tmp_path, overwrite=True)
    assert not (tmp_path / "tensorboard").exists()


def test_a_logger_of_lightning_is_one(tmp_path):
    from lightning_fabric.loggers import CSVLogger, TensorBoardLogger

    loggers = CSVLogger(tmp_path / "a"), TensorBoardLogger(tmp_path / "b")
    fit(mlp(), freeze="2", epochs=1, cache=False, logger=loggers)
    assert "train_loss" in next((tmp_path / "a").rglob("metrics.csv")).read_text()
    loggers[1].finalize("success")
    assert b"train_loss" in next((tmp_path / "b").rglob("events*")).read_bytes()


@pytest.mark.parametrize(("given", "received"), [(True, "True"), ("wandb", "'wandb'"), (Own, "the class Own"),
                                                 ([Own(), 3], "a int")])  # fmt: skip
def test_what_is_no_logger_is_refused(given, received):
    with pytest.raises(fl.DataError, match="This is no logger that fit can use") as error:
        as_loggers(given)
    assert error.value.received == received


def test_a_logger_by_name_needs_a_folder_and_its_package(tmp_path, monkeypatch):
    with pytest.raises(fl.DataError, match="writes into the folder of the run, and there is none"):
        fit(mlp(), epochs=1, logger="tensorboard")
    module = "lightning_fabric.loggers.tensorboard"
    monkeypatch.setattr(f"{module}._TENSORBOARD_AVAILABLE", False)
    monkeypatch.setattr(f"{module}._TENSORBOARDX_AVAILABLE", False)
    with pytest.raises(fl.DataError, match="The logger's package is not installed") as error:
        make_fabric("32-true", 1, tmp_path, ["tensorboard"])
    assert error.value.do == "pip install tensorboard."


def test_devices_that_are_not_there_are_refused(monkeypatch):
    from lightning_fabric import Fabric
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    def launch(self):  # what Fabric raises on a machine with one GPU, which no test has
        raise MisconfigurationException("You requested gpu: [0, 1]\n But your machine only has: [0]")

    monkeypatch.setattr(Fabric, "launch", launch)
    with pytest.raises(fl.DataError, match="So many devices cannot train together here") as error:
        make_fabric("32-true", 2, None)
    assert error.value.received == "You requested gpu: [0, 1]"
