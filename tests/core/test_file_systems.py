import os

from frostline.core import file_systems, io
from frostline.core.file_systems import is_network, locks_follow_maps, memory_bytes


def mounts(tmp_path, monkeypatch, kind):
    device = os.stat(tmp_path).st_dev
    line = f"36 35 {os.major(device)}:{os.minor(device)} / /mnt rw shared:1 - {kind} host:/share rw\n"
    (tmp_path / "mounts").write_text(f"no line of mounts\n{line}")
    monkeypatch.setattr(file_systems, "_MOUNTS", tmp_path / "mounts")


def test_a_disk_of_another_machine_is_known_by_its_file_system(tmp_path, monkeypatch):
    for kind, expected in (("nfs4", True), ("fuse.sshfs", True), ("lustre", True), ("ext4", False), ("tmpfs", False)):
        mounts(tmp_path, monkeypatch, kind)
        assert is_network(tmp_path) == expected, kind


def test_what_cannot_be_found_out_is_a_local_disk(tmp_path, monkeypatch):
    assert not is_network(tmp_path / "none")
    monkeypatch.setattr(file_systems, "_MOUNTS", tmp_path / "none")
    assert not is_network(tmp_path)


def test_memory_is_that_of_the_group_where_it_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(file_systems, "_GROUP_LIMITS", (tmp_path / "limit", tmp_path / "other"))
    (tmp_path / "other").write_text("max\n")
    whole = memory_bytes()
    (tmp_path / "limit").write_text("1000000\n")
    assert memory_bytes() == 1_000_000 < whole
    monkeypatch.setattr(io.os, "sysconf", lambda _: (_ for _ in ()).throw(ValueError()))
    (tmp_path / "limit").write_text("max\n")
    assert memory_bytes() == 2**33


def test_locks_follow_maps_on_disks_that_map_the_file_that_was_locked(tmp_path, monkeypatch):
    for kind, expected in (("ext4", True), ("xfs", True), ("tmpfs", True), ("overlay", False), ("fuse.x", False)):
        mounts(tmp_path, monkeypatch, kind)
        assert locks_follow_maps(tmp_path) == expected, kind
    assert not locks_follow_maps(tmp_path / "none")
