import os
import signal
import time

import pytest

import frostline as fl
from frostline.training import forked_process
from frostline.training.forked_process import forked, raise_first


def ended(process):
    process.wait()
    return process


def test_a_process_that_returns_has_no_error():
    process = ended(forked(lambda: None, 1, 2))
    try:
        assert process.has_ended()
        assert process.error() is None
        raise_first([process])
    finally:
        process.end()


def test_what_a_process_raises_is_raised_here_with_its_number():
    def failing():
        raise fl.DataError(what="It failed.", where="here", received="this", do="that.")

    process = ended(forked(failing, 2, 3))
    with pytest.raises(fl.DataError, match="It failed") as caught:
        raise_first([process])
    assert caught.value.where == "here, process 2 of 3 (numbered from 0)"
    process.end()


def test_one_that_runs_has_no_error_yet_and_is_ended():
    process = forked(lambda: time.sleep(600), 1, 2)
    assert not process.has_ended()
    assert process.error() is None
    process.end()
    assert process.has_ended()
    assert f"signal {int(signal.SIGKILL)}" in process.error().received


def test_a_report_is_waited_for_where_a_connection_was_closed(monkeypatch):
    looks = []

    class Late:
        def error(self):
            looks.append(1)
            return fl.DataError(what="Late.", where="x", received="y", do="z.") if len(looks) == 3 else None

    monkeypatch.setattr(forked_process.time, "sleep", lambda _: None)
    with pytest.raises(fl.DataError, match="Late"):
        raise_first([Late()], RuntimeError("Connection closed by peer"))
    looks.clear()
    raise_first([Late()], ValueError("of the caller"))
    assert len(looks) == 1


def test_output_of_the_caller_is_written_once(capfd):
    print("before", end="")
    ended(forked(lambda: os.write(1, b"!"), 1, 2)).end()
    assert capfd.readouterr().out == "before!"
