import copy
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

import frostline as fl
from helpers_lengths import Sentences, pad, sentences
from helpers_selection import OutOfOrder, ResNet, images


def choose(model, data, tmp_path, **options):
    return fl.choose_depth(model, data, cache=tmp_path, progress=False, **options)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return ResNet()


class Counted(Dataset):
    """Items that are counted, with keys of their own."""

    fingerprint = "counted/1"

    def __init__(self, count=60):
        self.x, self.labels = images(count)
        self.reads = 0

    def __len__(self):
        return len(self.labels)

    def sample_key(self, index):
        return b"%d" % index

    def target(self, index):
        return int(self.labels[index])

    def __getitem__(self, index):
        self.reads += 1
        return self.x[index], int(self.labels[index])


def test_a_line_is_chosen_by_its_score_and_the_table_says_what_each_costs(model, tmp_path):
    report = choose(model, TensorDataset(*images(150)), tmp_path)
    assert [row.through for row in report.table] == [None, "bn", "blocks.0", "blocks.1", "blocks"]
    assert (report.metric, report.samples, report.baseline) == ("accuracy", 150, 1 / 3)
    best = max(report.table, key=lambda row: row.reachable)
    within = [row.through for row in report.table if row.reachable >= best.reachable - row.reachable_error]
    assert report.best == within[-1]
    for row in report.table[1:]:
        assert row.epoch_s > 0
        assert row.total_s > 0
        assert row.bytes_per_sample > 0
    assert report.advice in str(report).replace("\n", " ")
    assert json.loads(report.to_json())["samples"] == 150


def test_the_chosen_layer_is_one_that_freeze_takes(tmp_path):
    torch.manual_seed(0)
    layers = [nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2)]
    x = torch.randn(300, 6)
    data = TensorDataset(x, (x[:, 0] * x[:, 1] > 0).long())  # no line parts them, features do
    model = nn.Sequential(*layers)
    fl.fit(model, data, epochs=60, lr=1e-2, cache=False, monitor=False, progress=False)
    report = choose(model, data, tmp_path)
    assert report.best == "2"
    assert report.advice.startswith("Replace the output layer only")
    assert fl.freeze(model, through=report.best).layers


def test_the_model_is_left_as_it_was(model, tmp_path):
    fl.freeze(model, through="bn")
    model.fc.weight.grad = torch.ones_like(model.fc.weight)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    trains = [parameter.requires_grad for parameter in model.parameters()]
    state = torch.get_rng_state()
    choose(model, TensorDataset(*images()), tmp_path)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert modes == [module.training for module in model.modules()]
    assert trains == [parameter.requires_grad for parameter in model.parameters()]
    assert torch.equal(state, torch.get_rng_state())
    assert model.fc.weight.grad is not None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_second_call_computes_nothing_and_reads_the_example_only(model, tmp_path):
    data = Counted()
    first = choose(model, data, tmp_path)
    data.reads = 0
    second = choose(model, data, tmp_path)
    assert data.reads == 4 + 16  # the example, and the golden rows that every fill compares
    assert [row.probe for row in first.table] == [row.probe for row in second.table]
    assert [row.reachable for row in first.table] == [row.reachable for row in second.table]
    assert first.best == second.best
    assert fl.FeatureCache(tmp_path).entries()[0].rows == 60


def test_without_a_cache_features_lie_in_a_folder_that_is_removed(model, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    report = fl.choose_depth(model, TensorDataset(*images()), cache=False, progress=False)
    assert report.table
    assert not [*tmp_path.glob("frostline-*")]


def test_a_sample_of_each_class_is_enough(model, tmp_path):
    data = Counted(200)
    report = choose(model, data, tmp_path, samples=60)
    assert report.samples == 60
    assert data.reads < 120


def test_regression_labels_and_imbalanced_classes_are_scored(model, tmp_path):
    x, _ = images(100)
    assert choose(model, TensorDataset(x, x.mean((1, 2, 3))), tmp_path).metric == "R2"
    labels = (x.mean((2, 3)) > 0.1).float()
    assert choose(model, TensorDataset(x, labels), tmp_path).metric == "mean F1"
    rare = (torch.arange(100) % 10 == 0).long()
    assert choose(model, TensorDataset(x, rare), tmp_path).metric == "balanced accuracy"


def test_candidates_are_the_callers_and_unknown_ones_are_named(model, tmp_path):
    data = TensorDataset(*images())
    report = choose(model, data, tmp_path, candidates=["blocks.1", "bn"])
    assert [row.through for row in report.table] == [None, "bn", "blocks.1"]
    with pytest.raises(fl.LayerNotFound, match="no layer named 'blocks.9'"):
        choose(model, data, tmp_path, candidates=["blocks.9"])


def test_a_model_without_a_line_to_cache_is_refused_with_the_reasons(tmp_path):
    x, y = torch.randn(60, 4), torch.arange(60) % 2
    with pytest.raises(fl.NotCacheable, match="can be frozen at none of these lines") as caught:
        choose(OutOfOrder(), TensorDataset(x, y), tmp_path)
    assert "'top' would be frozen too" in caught.value.received


def test_a_deepest_line_that_cannot_be_split_is_marked_and_the_next_is_taken(tmp_path):
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x):
            h = self.a(x).relu()
            h = self.b(h)
            return self.c(h - h.mean(0))  # depends on the batch

    torch.manual_seed(0)
    x, y = torch.randn(60, 4), torch.arange(60) % 2
    report = choose(Noisy(), TensorDataset(x + y[:, None], y), tmp_path)
    assert [bool(row.why_not) for row in report.table] == [False, False, True]
    assert report.best in ("a", None)
    assert "note: b:" in str(report)


def test_features_that_do_not_vary_are_refused(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight.zero_()
    with pytest.raises(fl.DataError, match="The features do not vary at any line"):
        choose(model, TensorDataset(torch.randn(40, 4), torch.arange(40) % 2), tmp_path)


def test_labels_that_say_too_little_are_refused(model, tmp_path):
    x, _ = images(60)
    with pytest.raises(fl.DataError, match="All samples have the same class"):
        choose(model, TensorDataset(x, torch.zeros(60, dtype=torch.int64)), tmp_path)
    with pytest.raises(fl.DataError, match="too few samples to hold some of each class out"):
        choose(model, TensorDataset(x[:12], torch.arange(12) % 3), tmp_path)


def test_models_of_half_precision_are_scored_as_well(model, tmp_path):
    report = choose(model.to(torch.bfloat16), TensorDataset(*images()), tmp_path)
    assert np.isfinite([row.probe for row in report.table]).all()


class Mirrored(Dataset):
    """Images, mirrored and shifted in brightness at random."""

    def __init__(self, count=120):
        self.x, self.labels = images(count)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        x = self.x[index] + 0.1 * torch.randn(())
        return (x.flip(-1) if torch.rand(()) < 0.5 else x), int(self.labels[index])


def table(report, *names):
    return [[getattr(row, name) for name in names] for row in report.table]


def test_of_random_data_the_first_view_is_scored_and_all_are_paid_for(model, tmp_path):
    one, four = (choose(model, Mirrored(), tmp_path / str(views), views=views) for views in (1, 4))
    assert table(one, "reachable", "probe") == table(four, "reachable", "probe")
    stored = [row.bytes_per_sample for row in one.table]
    assert [row.bytes_per_sample for row in four.table] == [stored[0], *(4 * own for own in stored[1:])]
    with pytest.raises(fl.DataError, match="The dataset is random"):
        choose(model, Mirrored(), tmp_path)


@pytest.mark.parametrize(("storage", "share"), [("float16", 0.5), ("bfloat16", 0.5), ("int8", 0.25)])
def test_features_are_scored_as_a_training_would_load_them(model, tmp_path, storage, share):
    data = TensorDataset(*images(120))
    exact, rounded = (choose(model, data, tmp_path, storage=own) for own in ("exact", storage))
    assert [row.through for row in rounded.table] == [row.through for row in exact.table]
    for ours, plain in zip(rounded.table[1:], exact.table[1:], strict=True):
        assert ours.bytes_per_sample / plain.bytes_per_sample == pytest.approx(share, abs=0.15)  # scales
        assert ours.reachable == pytest.approx(plain.reachable, abs=0.05)
    assert table(rounded, "logme")[1:] != table(exact, "logme")[1:]


def test_a_frozen_pass_in_bf16_is_scored_as_it_rounds(model, tmp_path):
    data = TensorDataset(*images(120))
    exact = choose(model, data, tmp_path)
    rounded = choose(model, data, tmp_path, frozen_pass=["bf16", "fold"])
    folded = choose(model, data, tmp_path, frozen_pass="fold")
    assert table(rounded, "logme")[1:] != table(exact, "logme")[1:]
    assert table(folded, "logme") == table(exact, "logme")
    assert any("seconds are those of the plain pass" in note for note in folded.notes)


def test_samples_of_differing_length_are_scored_at_their_own(tmp_path):
    torch.manual_seed(0)
    network, data = Sentences(), sentences(60)
    small, large = (choose(network, data, tmp_path / str(size), collate_fn=pad, batch_size=size) for size in (1, 16))
    for ours, theirs in zip(table(small, "reachable", "logme"), table(large, "reachable", "logme"), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
    alike = [(torch.randint(1, 30, (6,), generator=torch.Generator().manual_seed(at)), at % 2) for at in range(60)]
    stacked = [({"ids": ids, "mask": torch.ones_like(ids)}, label) for ids, label in alike]
    ours = choose(network, alike, tmp_path / "pad", collate_fn=pad)
    assert table(ours, "reachable") == table(choose(network, stacked, tmp_path / "stack"), "reachable")


def test_a_line_whose_features_follow_the_padding_is_marked(tmp_path):
    torch.manual_seed(0)

    class Leaky(Sentences):
        def forward(self, ids, mask):
            return super().forward(ids, torch.ones_like(mask))

    with pytest.raises(fl.NotCacheable, match="none of these lines") as error:
        choose(Leaky(), sentences(60), tmp_path, collate_fn=pad, candidates=["low"])
    assert "depends on the padding" in error.value.received


def test_the_line_of_a_run_is_chosen_on_samples_of_differing_length(tmp_path, capsys):
    torch.manual_seed(0)
    runs = [fl.fit(copy.deepcopy(network), sentences(60), collate_fn=pad, freeze="auto", epochs=1, cache=cache)
            for network in [Sentences()] for cache in (tmp_path, False)]  # fmt: skip
    assert "freeze='auto'" in capsys.readouterr().err
    assert runs[0].history[0].train_loss == pytest.approx(runs[1].history[0].train_loss, abs=1e-5)


@pytest.mark.parametrize("option", [{"views": 0}, {"storage": "int4"}, {"frozen_pass": "fast"}, {"collate_fn": 3}])
def test_options_of_rows_are_checked_first(model, tmp_path, option):
    with pytest.raises(fl.DataError) as error:
        choose(model, TensorDataset(*images(30)), tmp_path, **option)
    assert "choose_depth(" in error.value.where


MEMO = {}


class Remembering(nn.Module):
    """It adds the mean of the first batch, which it keeps in a global."""

    def __init__(self):
        super().__init__()
        self.low, self.middle, self.high = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, inputs):
        if "first" not in MEMO:
            MEMO["first"] = inputs.mean()
        return self.high(self.middle(self.low(inputs).relu()).relu() + MEMO["first"])


def test_what_a_model_keeps_in_a_global_is_not_that_of_a_measurement():
    MEMO.clear()
    dataset = TensorDataset(torch.randn(60, 6), torch.arange(60) % 3)
    fl.choose_depth(Remembering(), dataset, progress=False)
    assert MEMO == {}
