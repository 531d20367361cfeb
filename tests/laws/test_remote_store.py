"""A cache on a real S3-compatible server on loopback: rows, faults of the server, builders at once, killed builders."""

import copy
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import s3fs
import torch
from torch.utils.data import Subset

import frostline as fl
from frostline.caching.reading.gather import Gatherer
from frostline.caching.store import opening, shard_writer
from helpers_caching import N, Part, dataset, opened_in
from helpers_processes import run_script
from helpers_s3 import SECRET, cache_on, s3_server, without_waiting

pytestmark = pytest.mark.filterwarnings("default")  # those of the server and of the backend are not ours


@pytest.fixture(scope="module")
def served():
    with s3_server() as found:
        yield found


@pytest.fixture
def server(served, monkeypatch):
    """(front, options) of an empty bucket."""
    front, options = served
    front.fault, front.seen = lambda *_: None, []
    files = s3fs.S3FileSystem(**options)
    files.invalidate_cache()
    for path in files.find("bucket"):
        files.rm_file(path)
    without_waiting(monkeypatch)
    yield front, options
    front.fault = lambda *_: None


def fill(options, folder, part=None, data=None, **more):
    return cache_on(options, folder).fill(
        part or Part(), data if data is not None else dataset(), progress=False, **more
    )


def check_rows(data, samples=N):
    own = dataset(samples)
    assert all(torch.equal(data[at][0][0], own[at][0] * 2) for at in range(samples))


def test_another_machine_gets_every_row_and_an_emptied_folder_costs_fetching(server, tmp_path):
    _, options = server
    assert fill(options, tmp_path / "one").figures.computed == N
    part = Part()
    data = fill(options, tmp_path / "two", part)
    assert (data.figures.computed, part.samples) == (0, 16)
    check_rows(data)
    shutil.rmtree(tmp_path / "one")
    check_rows(fill(options, tmp_path / "one"))
    assert cache_on(options, tmp_path / "two").verify() == ()


def nth(fault, *, of=lambda method, path: True, first=1, count=1):
    """A fault for some requests of one kind: from the first-th on, so many of them."""
    seen = []

    def choose(method, path, number):
        if of(method, path):
            seen.append(number)
            if first <= len(seen) < first + count:
                return fault
        return None

    return choose


KINDS = {
    "any request": lambda method, path: True,
    "what is written": lambda method, path: method == "PUT",
    "a shard that is written": lambda method, path: method == "PUT" and "/shards/" in path,
    "a manifest that is written": lambda method, path: method == "PUT" and "/manifests/" in path,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", [500, 503, 409])
def test_a_server_that_fails_for_a_moment_is_asked_again(server, tmp_path, kind, fault):
    front, options = server
    front.fault = nth(fault, of=KINDS[kind], count=2)
    check_rows(fill(options, tmp_path / "one"))
    front.fault = nth(fault, count=2)
    data = fill(options, tmp_path / "two")
    assert data.figures.computed == 0
    check_rows(data)


def test_a_conflict_over_a_manifest_is_survived(server, tmp_path):
    front, options = server
    front.fault = nth(412, of=KINDS["a manifest that is written"])
    check_rows(fill(options, tmp_path / "one"))  # a refusal without an object there: written all the same
    assert fill(options, tmp_path / "two").figures.computed == 0


def test_an_answer_that_was_lost_is_no_conflict(server, tmp_path):
    front, options = server
    done = []

    def lost(method, path, number):
        if KINDS["a manifest that is written"](method, path) and not done:
            done.append(front.application)
            return "cut"  # the store has it, and the client does not know
        return None

    front.fault = lost
    check_rows(fill(options, tmp_path / "one"))
    assert done
    assert len(cache_on(options, tmp_path / "two").entries()) == 1


@pytest.mark.parametrize("folder", ["shards", "manifests"])
def test_an_answer_that_is_cut_off_is_read_again(server, tmp_path, folder):
    front, options = server
    fill(options, tmp_path / "one")
    front.fault = nth("cut", of=lambda method, path: method == "GET" and f"/{folder}/" in path, count=2)
    data = fill(options, tmp_path / "two")
    assert data.figures.computed == 0
    check_rows(data)


def test_a_server_that_hangs_is_given_up_and_asked_again(server, tmp_path):
    front, options = server
    fill(options, tmp_path / "one")
    front.fault = nth("hang", of=lambda method, path: method == "GET" and "/shards/" in path)
    check_rows(fill(options, tmp_path / "two"))


def texts_of(error):
    """Everything that a user could see of an error: its causes and their texts, too."""
    found = []
    while error is not None:
        found.append(f"{type(error).__name__} {error} {error.args}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(found)


@pytest.mark.parametrize("fault", [500, 503])
def test_an_outage_is_an_error_in_four_parts_without_secrets_and_loses_nothing(server, tmp_path, fault):
    front, options = server
    fill(options, tmp_path / "one", data=Subset(dataset(), range(20)))
    front.fault = lambda *_: fault
    with pytest.raises(fl.CacheError, match="in the remote cache") as caught:
        fill(options, tmp_path / "one")
    assert all(caught.value.parts().values())
    assert SECRET not in texts_of(caught.value)
    front.fault = lambda *_: None
    assert fill(options, tmp_path / "one").figures.computed == N - 20


def test_wrong_credentials_and_a_missing_bucket_are_told(server, tmp_path):
    _, options = server
    with pytest.raises(fl.CacheError) as caught:
        cache_on(options, tmp_path, "s3://no-such-bucket/features").fill(Part(), dataset(), progress=False)
    assert all(caught.value.parts().values())
    assert SECRET not in texts_of(caught.value)


def test_a_write_that_fails_never_publishes_a_manifest_without_its_shards(server, tmp_path, monkeypatch):
    """From some request on all fail; what is in the store then must be whole."""
    front, options = server
    monkeypatch.setattr(shard_writer, "_SHARD_SECONDS", 0.0)
    fill(options, tmp_path / "whole", data=dataset(8), batch_size=4)
    total, failed = len(front.seen), 0
    for count in range(1, total, total // 5):
        files = s3fs.S3FileSystem(**options)
        for path in files.find("bucket", refresh=True):
            files.rm_file(path)
        front.seen.clear()
        front.fault = lambda method, path, number, last=count: 500 if number >= last else None
        try:
            fill(options, tmp_path / f"{count}", data=dataset(8), batch_size=4)
        except fl.CacheError:
            failed += 1
        front.fault = lambda *_: None
        check_published(options)
    assert failed >= 3
    check_rows(fill(options, tmp_path / "last", data=dataset(8)), 8)


def check_published(options):
    """Every shard that a manifest in the store names is there, under the digest of its content."""
    import hashlib

    files = s3fs.S3FileSystem(**options)
    files.invalidate_cache()
    paths = files.find("bucket")
    shards = {path.rsplit("/", 1)[1]: path for path in paths if "/shards/" in path}
    for path in [path for path in paths if "/manifests/" in path]:
        text = files.cat_file(path)
        assert SECRET.encode() not in text
        for name in json.loads(text)["content"]["shards"]:
            assert f"{hashlib.sha256(files.cat_file(shards[name])).hexdigest()}.safetensors" == name


BUILDER = """
import os, signal, sys, torch
import frostline as fl
from frostline.caching.store import opening
from frostline.caching.store import shard_writer
from frostline.core import io
from helpers_caching import Part, dataset, opened_in
from helpers_processes import run_script
from helpers_s3 import SECRET, SOON
from torch.utils.data import Subset
endpoint, folder, first, stop, at = sys.argv[1:]
shard_writer._SHARD_SECONDS = 0.0
real, count = io.call, 0
def counted(function, *arguments, **options):
    global count
    count += 1
    if count == int(at):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(function, *arguments, **options)
io.call = counted
options = {"key": "testing", "secret": SECRET, "endpoint_url": endpoint, **SOON}
cache = fl.FeatureCache("s3://bucket/features", storage_options=options, local_folder=folder)
data = cache.fill(Part(), Subset(dataset(), range(int(first), int(stop))), batch_size=5, progress=False)
print(data.figures.computed, count)
"""


def built(options, folder, first, stop, at=0):
    arguments = [options["endpoint_url"], str(folder), str(first), str(stop), str(at)]
    return run_script(BUILDER, folder.parent, arguments=arguments)


def test_builders_at_once_lose_nothing(server, tmp_path):
    _, options = server
    with ThreadPoolExecutor(3) as pool:
        ranges = [(0, 25), (15, N)]
        done = list(pool.map(lambda own: built(options, tmp_path / f"{own[0]}", *own), ranges))
    assert [own.returncode for own in done] == [0, 0], [own.stderr[-2000:] for own in done]
    check_published(options)
    data = fill(options, tmp_path / "last")
    assert data.figures.computed == 0
    check_rows(data)


def test_a_builder_that_is_killed_leaves_a_whole_store(server, tmp_path):
    _, options = server
    whole = built(options, tmp_path / "whole", 0, N)
    calls = int(whole.stdout.split()[1])
    files = s3fs.S3FileSystem(**options)
    for at in (calls // 3, 2 * calls // 3):
        files.invalidate_cache()
        for path in files.find("bucket"):
            files.rm_file(path)
        assert built(options, tmp_path / f"killed-{at}", 0, N, at).returncode == -9
        check_published(options)
        data = fill(options, tmp_path / f"after-{at}")
        check_rows(data)
        assert fill(options, tmp_path / f"killed-{at}").figures.computed == 0


@pytest.fixture
def large(monkeypatch):
    """Caches of any size are opened by their keys, as those of many gigabytes are."""
    monkeypatch.setattr(opening, "_CHECKED_AT_ONCE", -1)
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 10 * 4 * 6)  # four shards of ten rows
    monkeypatch.setattr(shard_writer, "_MAX_SMALL", 99)


def test_a_large_cache_is_fetched_as_its_rows_are_used(server, tmp_path, large):
    front, options = server
    fill(options, tmp_path / "one", batch_size=10)
    data = fill(options, tmp_path / "two", data=Subset(dataset(), range(3)))
    assert len(list((tmp_path / "two").glob("*/shards/*.safetensors"))) == 1  # golden rows, and all of this dataset
    front.fault = nth("cut", of=lambda method, path: method == "GET" and "/shards/" in path, count=3)
    data = fill(options, tmp_path / "three")
    assert data.figures.computed == 0
    check_rows(data)
    rows = torch.cat([features[0] for features, _ in data.loader(7, shuffle=True)])
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, (dataset().tensors[0] * 2).tolist()))


def test_workers_that_were_forked_fetch_for_themselves(server, tmp_path, large):
    _, options = server
    fill(options, tmp_path / "one", batch_size=10)
    data = fill(options, tmp_path / "two")
    rows = opened_in(cache_on(options, tmp_path / "three")).rows()
    data._gatherer = Gatherer(rows, data._gatherer.keys.numpy(), Part().frontier, {}, {})
    assert not list((tmp_path / "three").glob("*/shards/*.safetensors"))
    loader = torch.utils.data.DataLoader(data, batch_size=5, num_workers=2, multiprocessing_context="fork",
                                         collate_fn=data.collate, timeout=60)  # fmt: skip
    found = torch.cat([features[0] for features, _ in loader])
    assert torch.equal(found, dataset().tensors[0] * 2)
    assert len(list((tmp_path / "three").glob("*/shards/*.safetensors"))) == 4
    assert not any(shard.is_here for shard in rows.mapped)  # this process has fetched nothing
    check_rows(data)  # and can do so, over the files that the workers have finished


def test_a_cache_goes_to_another_process_and_secrets_stay_in_memory(server, tmp_path):
    _, options = server
    cache = copy.deepcopy(cache_on(options, tmp_path / "one"))  # as Ray sends it to its builders
    assert cache.fill(Part(), dataset(), progress=False).figures.computed == N
    assert fill(options, tmp_path / "two").figures.computed == 0
    assert SECRET not in repr(cache)
