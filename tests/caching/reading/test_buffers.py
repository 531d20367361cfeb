import copy
import pickle
import threading

import pytest
import torch

from frostline.caching.reading import buffers
from frostline.caching.reading.buffers import Buffers, is_worth_lending
from helpers_caching import D, N, dataset, fill

ROWS = torch.arange(64.0).view(16, 4)
AT = torch.arange(8)
DTYPES = (
    torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64,
    torch.float8_e5m2,
)  # fmt: skip


def saved_for_backward(batch):
    return (torch.ones(4, requires_grad=True) * batch).sum()  # its graph holds the batch


HOLDERS = [
    lambda batch: batch,
    lambda batch: batch[3:4],
    lambda batch: batch.T.detach(),
    lambda batch: batch.view(torch.int32),
    lambda batch: batch.numpy(),
    lambda batch: memoryview(batch.numpy()),
    lambda batch: batch.untyped_storage(),
    lambda batch: torch.from_dlpack(batch),
    lambda batch: torch.nn.Parameter(batch),
    lambda batch: {"kept": [batch.unbind()]},
    saved_for_backward,
]


@pytest.mark.parametrize("hold", HOLDERS)
def test_memory_is_lent_again_when_nobody_holds_it_and_not_before(hold):
    lending = Buffers()
    batch = lending.select("low", ROWS, AT)
    place = batch.data_ptr()
    held = hold(batch)
    del batch
    others = [lending.select("low", ROWS, AT + 8) for _ in range(4)]
    assert place not in [other.data_ptr() for other in others]
    del held
    assert lending.select("low", ROWS, AT).data_ptr() == place


def test_what_is_lent_are_the_rows():
    for dtype in DTYPES:
        rows = ROWS.to(dtype).view(16, 2, 2)
        lending = Buffers()
        for at in (AT, AT[:3], AT + 8):  # a short batch takes a part of a long one's memory, and gives all of it back
            found = lending.select("low", rows, at)
            assert torch.equal(found.view(torch.uint8), rows[at].view(torch.uint8))
            assert found.is_contiguous()
            assert found.untyped_storage().nbytes() == found.nbytes
            assert found.data_ptr() % 64 == 0  # as torch aligns: kernels choose by it


def test_little_memory_is_kept():
    lending = Buffers()
    held = [lending.select("low", ROWS, AT) for _ in range(9)]
    assert len({batch.data_ptr() for batch in held}) == 9
    del held
    assert len(lending._free["low"]) == 2
    assert not lending._watched
    assert not is_worth_lending(2**19)
    assert is_worth_lending(2**20)


def test_a_copy_begins_without_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(buffers, "_LEAST_BYTES", 1)
    loader = fill(tmp_path).loader(8, shuffle=True)
    first = [features[0] for features, _ in loader]
    for other in (copy.deepcopy(loader), pickle.loads(pickle.dumps(loader))):
        other.epoch = 0
        assert all(map(torch.equal, first, (features[0] for features, _ in other)))


def test_passes_in_turn_and_in_threads_overwrite_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(buffers, "_LEAST_BYTES", 1)
    loader = fill(tmp_path).loader(7, shuffle=True)
    rows = dataset().tensors[0] * 2
    wrong = []

    def run(every):
        kept = []
        for number in range(20):
            for features, _ in loader:
                kept.append((features[0], features[0].clone()))
                kept = kept[-(number % every + 1) :]
                wrong.extend(batch for batch, copied in kept if not torch.equal(batch, copied))

    threads = [threading.Thread(target=run, args=(every,)) for every in (1, 3, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    seen = torch.cat([torch.cat([one, two]) for ((one,), _), ((two,), _) in zip(loader, loader, strict=True)])
    assert seen.shape == (2 * N, D)
    assert torch.equal(seen.sort(0).values, torch.cat([rows, rows]).sort(0).values)


def test_a_pass_takes_the_same_memory_again(tmp_path, monkeypatch):
    monkeypatch.setattr(buffers, "_LEAST_BYTES", 1)
    loader = fill(tmp_path).loader(8)
    places = {features[0].data_ptr() for _ in range(3) for features, _ in loader}
    assert len(places) == 2  # the loop holds one batch while it takes the next, also from pass to pass
