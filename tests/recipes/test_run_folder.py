"""The folder of a run: one process at a time, and nothing replaced unasked."""

import os

import pytest

import frostline as fl
from frostline.recipes import run_folder
from frostline.recipes.run_folder import run_folders
from helpers_fit import fit, mlp
from helpers_processes import run_script

SECOND = """
import sys
import frostline as fl
from frostline.recipes import run_folder
from helpers_fit import fit, mlp
run_folder._WAIT_S = 0.0
try:
    fit(mlp(), freeze="2", epochs=1, out="run", {options})
except fl.DataError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(run_folder, "_WAIT_S", 0.0)


class During:
    """Starts a second process while the first is in its first epoch, and the earlier run is set aside."""

    def __init__(self, folder, options):
        self.folder, self.options, self.done = folder, options, None

    def on_train_batch_end(self, run):
        if self.done is None:
            assert (self.folder / "run" / "replaced").is_dir()
            self.done = run_script(SECOND.format(options=self.options), self.folder)


@pytest.mark.parametrize("options", ["", "overwrite=True", "resume='run'"])
def test_a_second_process_leaves_the_folder_to_the_first(tmp_path, options):
    fit(mlp(), freeze="2", epochs=1, out=tmp_path / "run")
    during = During(tmp_path, options)
    result = fit(mlp(), freeze="2", epochs=2, out=tmp_path / "run", overwrite=True, callbacks=[during])
    assert during.done.returncode == 1
    assert "Another process trains in this folder." in during.done.stderr
    assert not (tmp_path / "run" / "replaced").exists()
    assert len(result.history) == 2
    assert len(fit(mlp(), freeze="2", epochs=3, out=tmp_path / "run", resume=tmp_path / "run").history) == 3


def test_a_run_that_goes_on_elsewhere_does_not_touch_the_folder_of_the_first(tmp_path, impatient):
    fit(mlp(), freeze="2", epochs=1, out=tmp_path / "run")

    class Branches:
        def on_train_epoch_start(self, run):
            if run.epoch == 2:
                script = SECOND.replace('out="run"', 'out="branch", resume="run"').format(options="")
                self.done = run_script(script.replace("epochs=1", "epochs=2"), tmp_path)

    branches = Branches()
    fit(mlp(), freeze="2", epochs=2, out=tmp_path / "run", resume=tmp_path / "run", callbacks=[branches])
    assert branches.done.returncode == 0, branches.done.stderr
    assert (tmp_path / "branch" / "checkpoint.json").exists()


def test_a_folder_is_free_again_after_the_run(tmp_path, impatient):
    for _ in range(2):
        with run_folders(tmp_path, None, overwrite=False) as (folder, again):
            assert (folder, again) == (tmp_path, None)
            with (
                pytest.raises(fl.DataError, match="Another process trains in this folder"),
                run_folders(tmp_path, None, overwrite=False),
            ):
                pass


def test_a_run_that_is_refused_leaves_no_folder(tmp_path):
    with pytest.raises(fl.DataError, match="no loss named"):
        fit(mlp(), loss="cross", out=tmp_path / "a" / "b")
    assert os.listdir(tmp_path) == []
