import os

from frostline.caching.location.local_recipe import LocalRecipe, delete_recipe, is_folder
from helpers_caching import fill


def stored(root):
    fill(root)
    (folder,) = root.iterdir()
    return folder


def test_its_bytes_are_those_of_all_files_and_links_do_not_count(tmp_path):
    folder = stored(tmp_path)
    recipe = LocalRecipe(folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert recipe.name == folder.name
    assert recipe.num_bytes() == sum(path.stat().st_size for path in files)
    (folder / "shards" / "link").symlink_to(files[0])
    assert "link" not in recipe.sizes("shards")
    assert set(recipe.sizes("shards")) == {path.name for path in files if path.parent.name == "shards"}
    assert recipe.sizes("no-such-folder") == {}
    assert recipe.last_used() == os.lstat(folder / "use.lock").st_mtime


def test_what_is_not_ours_stays_and_with_it_its_folder(tmp_path):
    folder = stored(tmp_path)
    (folder / "shards" / "thesis.txt").write_text("mine")
    freed = delete_recipe(folder)
    assert freed > 0
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*")] == ["shards", "shards/thesis.txt"]
    (folder / "shards" / "thesis.txt").unlink()
    assert delete_recipe(folder) == 0
    assert not folder.exists()


def test_a_link_to_a_folder_is_none(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    assert is_folder(tmp_path)
    assert not is_folder(tmp_path / "link")
    assert not is_folder(tmp_path / "no")
