"""The files of a run, and of one that it replaces."""

import shutil

import pytest

import frostline as fl
from frostline.training.run_files import has_checkpoint, replacing, settle
from helpers_fit import data, fit, mlp

RUN = ("checkpoint.json", "state-00002.safetensors", "confusion.csv", "health.jsonl", "model.json", "model.safetensors")


def files(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def run(tmp_path):
    """A folder with a run, and files that are none of it."""
    (tmp_path / "logs" / "version_0").mkdir(parents=True)
    (tmp_path / "cache").mkdir()
    for name in (*RUN, "logs/version_0/metrics.csv", "cache/rows", "notes.txt"):
        (tmp_path / name).write_text(f"old {name}")
    return tmp_path


def test_the_earlier_run_goes_when_the_new_one_has_a_checkpoint(run):
    with replacing(run):
        assert not has_checkpoint(run)
        assert not (run / "health.jsonl").exists()
        (run / "checkpoint.json").write_text("new")
        settle(run)
        assert not (run / "replaced").exists()
    assert files(run) == {"checkpoint.json": "new", "cache/rows": "old cache/rows", "notes.txt": "old notes.txt"}


def test_the_earlier_run_is_put_back_if_the_new_one_has_no_checkpoint(run):
    before = files(run)
    with pytest.raises(KeyboardInterrupt), replacing(run):
        (run / "health.jsonl").write_text("new")
        (run / "logs").mkdir()
        raise KeyboardInterrupt
    assert files(run) == before


@pytest.mark.parametrize("moves", range(9))
def test_a_process_that_is_killed_at_any_move_leaves_a_whole_run(run, monkeypatch, moves):
    """A call to the disk that fails, and all that follow, stand for the kill."""
    from frostline.training import run_files

    before, left = files(run), [moves]
    own = run_files.call

    def dying(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise SystemExit
        return own(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(run_files, "call", dying)
        with pytest.raises(SystemExit), replacing(run):
            (run / "health.jsonl").write_text("new")
    settle(run)
    assert files(run) == before


def test_files_of_a_run_without_a_checkpoint_are_deleted(run):
    (run / "checkpoint.json").unlink()
    with replacing(run):
        assert files(run) == {"cache/rows": "old cache/rows", "notes.txt": "old notes.txt"}


def test_logs_that_are_a_link_are_not_followed(run, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "kept").write_text("x")
    shutil.rmtree(run / "logs")
    (run / "logs").symlink_to(elsewhere)
    (run / "checkpoint.json").unlink()
    with replacing(run):
        assert not (run / "logs").exists()
    assert (elsewhere / "kept").exists()


def test_a_run_that_overwrites_leaves_its_own_files_only(tmp_path):
    fit(mlp(), val=data(20), freeze="2", epochs=2, out=tmp_path)
    (tmp_path / "model.json").write_text("{}")
    assert (tmp_path / "confusion.csv").exists()
    fit(mlp(), freeze="2", epochs=1, out=tmp_path, overwrite=True)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"cache", "checkpoint.json", "health.jsonl", "logs", "state-00001.safetensors"}
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["version_0"]


def test_a_run_that_fails_before_its_first_checkpoint_replaces_nothing(tmp_path):
    first = fit(mlp(), val=data(20), freeze="2", epochs=2, out=tmp_path)
    kept = {path.name for path in tmp_path.iterdir()}

    def clip(parameters):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(mlp(), val=data(20), freeze="2", epochs=2, out=tmp_path, overwrite=True, clip=clip)
    assert {path.name for path in tmp_path.iterdir()} == kept
    again = fit(mlp(), val=data(20), freeze="2", epochs=2, out=tmp_path, resume=tmp_path)
    assert again.history == first.history


def test_a_disk_that_fails_is_said(run, monkeypatch):
    from frostline.training import run_files

    def full(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(run_files, "call", full)
    with pytest.raises(fl.FrostlineError, match="Cannot move the earlier run in"), replacing(run):
        pass
