import gc
import os
import signal
import sys

import pytest
import torch

import frostline as fl
from frostline.core.io import Damaged
from frostline.training.rank_processes import in_processes, in_ranks


def rank() -> int:
    return torch.distributed.get_rank()


def test_the_processes_are_a_group_that_is_gone_afterwards():
    before, threads = dict(os.environ), torch.get_num_threads()

    def function() -> float:
        total = torch.tensor(float(rank() + 1))
        torch.distributed.all_reduce(total)
        return float(total)

    assert in_processes(function, 3) == 6.0
    assert dict(os.environ) == before
    assert torch.get_num_threads() == threads
    assert not torch.distributed.is_initialized()


def test_a_fork_computes_in_parallel_after_its_parent_has():
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        square = torch.randn(300, 300)
        square @ square  # a pool of threads, which a fork does not have

        def function() -> bool:
            same = torch.allclose(square @ square, square @ square) and torch.get_num_threads() == 2
            torch.distributed.barrier()
            return same

        assert in_processes(function, 2)
    finally:
        torch.set_num_threads(threads)


def test_a_process_that_is_killed_ends_the_run_and_is_named():
    def function() -> None:
        if rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        torch.distributed.barrier()

    with pytest.raises(fl.DataError, match="has died") as caught:
        in_processes(function, 2)
    assert caught.value.where == "process 1 of 2 (numbered from 0)"
    assert "SIGKILL" in caught.value.received


def test_an_error_of_another_process_is_raised_with_its_parts():
    def function() -> None:
        if rank() == 1:
            raise fl.CacheError(what="It failed.", where="here", received="this", do="that.")
        torch.distributed.barrier()

    with pytest.raises(fl.CacheError, match="It failed") as caught:
        in_processes(function, 2)
    assert caught.value.where == "here, process 1 of 2 (numbered from 0)"


def test_an_error_of_a_private_kind_is_raised_as_the_public_one():
    def function() -> None:
        if rank() == 1:
            raise Damaged(what="It is damaged.", where="here", received="this", do="that.")
        torch.distributed.barrier()

    with pytest.raises(fl.CacheError, match="It is damaged") as caught:
        in_processes(function, 2)
    assert caught.value.do == "that."


class Ring:
    """Refers to itself, as a process group does that an error keeps; notes which process deletes it."""

    def __init__(self, path) -> None:
        self.own, self.path = self, path

    def __del__(self) -> None:
        with self.path.open("a") as file:
            file.write(f"{os.getpid()} ")


def test_what_an_earlier_run_has_left_is_deleted_by_the_calling_process_alone(tmp_path):
    def function() -> None:
        gc.collect()
        torch.distributed.barrier()

    gc.disable()
    try:
        Ring(tmp_path / "deleted")
        in_processes(function, 2)
    finally:
        gc.enable()
    assert (tmp_path / "deleted").read_text().split() == [str(os.getpid())]


def test_an_error_of_code_of_the_caller_in_another_process_is_told():
    def function() -> None:
        if rank() == 1:
            raise ZeroDivisionError("by nothing")
        torch.distributed.barrier()

    with pytest.raises(fl.DataError, match="stopped") as caught:
        in_processes(function, 2)
    assert "ZeroDivisionError: by nothing" in caught.value.received


def test_an_error_of_the_first_process_ends_the_others():
    def function() -> None:
        if rank() == 0:
            raise fl.DataError(what="Mine.", where="here", received="this", do="that.")
        torch.distributed.barrier()

    with pytest.raises(fl.DataError, match="Mine"):
        in_processes(function, 2)


def test_where_nothing_can_be_forked_the_error_names_torchrun(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(fl.DataError, match="cannot be started") as caught:
        in_processes(rank, 2)
    assert "torchrun --nproc-per-node=2" in caught.value.do


def test_a_process_that_another_program_has_started_starts_none(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert in_ranks(lambda *, devices: devices + 1)(devices=2) == 3


def test_more_processes_than_a_machine_can_run_are_refused():
    with pytest.raises(fl.DataError, match="not as many devices"):
        in_processes(rank, 10**9)


def test_an_error_behind_the_last_meeting_is_raised_with_its_parts():
    def function() -> None:
        torch.distributed.barrier()
        if rank() == 1:
            raise fl.CacheError(what="It failed late.", where="here", received="this", do="that.")

    with pytest.raises(fl.CacheError, match="It failed late") as caught:
        in_processes(function, 2)
    assert caught.value.where == "here, process 1 of 2 (numbered from 0)"


def test_a_process_that_cannot_be_started_ends_those_that_were(monkeypatch):
    real, started = os.fork, []

    def fork() -> int:
        if started:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        started.append(real())
        return started[-1]

    monkeypatch.setattr(os, "fork", fork)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(fl.DataError, match="A process of this training cannot be started") as caught:
        in_processes(rank, 3)
    assert "Resource temporarily unavailable" in caught.value.received
    with pytest.raises(ChildProcessError):
        os.waitpid(started[0], 0)  # it was ended, and waited for
    assert set(os.listdir("/proc/self/fd")) == before
