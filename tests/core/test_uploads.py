"""The order of copies and waits, with streams that only note it; the copies themselves are tests of a GPU."""

from contextlib import contextmanager

import pytest
import torch

from frostline.core import uploads


class Stream:
    def __init__(self, events, name):
        self.events, self.name = events, name

    def wait_stream(self, other):
        self.events.append(f"{self.name} waits for {other.name}")


@pytest.fixture(name="events")
def _events(monkeypatch):
    events = []
    current = Stream(events, "current")

    @contextmanager
    def on(stream):
        events.append(f"on {stream.name}")
        yield
        events.append(f"off {stream.name}")

    def pinned(tensor):
        events.append("pinned")
        return tensor.clone()

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream(events, "copies"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    return events


def test_what_is_launched_next_waits_for_the_copies(events):
    batch = {"x": torch.arange(6.0), "ids": [torch.arange(3)], "name": "kept"}
    moved = uploads.Uploads(torch.device("cpu")).upload(batch)
    assert events == ["on copies", "pinned", "pinned", "off copies", "current waits for copies"]
    assert torch.equal(moved["x"], batch["x"])
    assert torch.equal(moved["ids"][0], batch["ids"][0])
    assert moved["name"] == "kept"


def test_what_cannot_be_pinned_stays_as_it_is(events):
    batch = (torch.eye(3).to_sparse(), torch.empty(2, device="meta"))
    moved = uploads.Uploads(torch.device("cpu")).upload(batch)
    assert "pinned" not in events
    assert moved[0] is batch[0]
    assert moved[1] is batch[1]
