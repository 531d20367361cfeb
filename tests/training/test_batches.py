import pytest
import torch
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.core.item_form import ItemForm
from frostline.training.batches import DatasetBatches, check_metric_targets, check_targets
from helpers_fit import D, data, fit, mlp

N = 10
DATA = TensorDataset(torch.arange(2.0 * N).view(N, 2), torch.arange(N))


def test_batches_come_in_order_and_the_last_one_is_short():
    feed = DatasetBatches(DATA, 4)
    batches = list(feed)
    assert (len(feed), [len(target) for _, target in batches]) == (3, [4, 4, 2])
    assert torch.equal(torch.cat([inputs for inputs, _ in batches]), DATA.tensors[0])
    assert torch.cat([target for _, target in batches]).tolist() == list(range(N))


def test_every_pass_is_the_next_epoch():
    feed = DatasetBatches(DATA, 3, shuffle=True, seed=5)
    first, second = ([target.tolist() for _, target in feed] for _ in range(2))
    assert feed.epoch == 2
    assert first != second
    feed.epoch = 0
    assert [target.tolist() for _, target in feed] == first


def test_a_cached_loader_goes_through_the_same_samples(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    fl.freeze(model, through="0")
    cached = fl.FeatureCache(tmp_path).fill(fl.split(model, torch.randn(4, 2)), DATA, progress=False)
    loader = cached.loader(3, shuffle=True, seed=7)
    feed = DatasetBatches(DATA, 3, shuffle=True, seed=7)
    for _ in range(3):
        assert [t.tolist() for _, t in feed] == [t.tolist() for _, t in loader]


def test_labels_leave_the_inputs_unless_they_are_kept():
    items = [{"x": torch.ones(2), "labels": at} for at in range(4)]
    inputs, target = DatasetBatches(items, 4).batch([1, 3])
    assert (sorted(inputs), target.tolist()) == (["x"], [1, 3])
    inputs, target = DatasetBatches(items, 4, form=ItemForm(frozenset({"labels"}))).batch([1, 3])
    assert inputs["labels"].tolist() == target.tolist() == [1, 3]


def test_floats_are_float32_targets():
    assert DatasetBatches([(torch.ones(1), 0.5)] * 2, 2).batch([0, 1])[1].dtype == torch.float32


def test_an_item_that_does_not_fit_is_named():
    odd = [(torch.ones(2), 0), (torch.ones(3), 1)]
    with pytest.raises(fl.DataError, match="do not fit together") as error:
        list(DatasetBatches(odd, 2))
    assert error.value.where == "dataset[1]"
    with pytest.raises(fl.DataError, match="dataset is empty"):
        DatasetBatches([], 2)


def with_targets(make):
    inputs = data().tensors[0]
    return [(inputs[at], make(at)) for at in range(len(inputs))]


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (with_targets(lambda at: "cat"), "not numbers"),
        (with_targets(lambda at: float(at % 2)), "class indices"),
        (TensorDataset(torch.ones(N, D), torch.ones(N).bool()), "class indices"),
        (TensorDataset(torch.ones(N, D), torch.full((N,), -100)), "No sample has a label"),
    ],
)
@pytest.mark.parametrize("is_val", [False, True])
def test_targets_that_cannot_be_used_are_refused_before_anything_runs(tmp_path, bad, what, is_val):
    model, calls = mlp(), []
    fl.freeze(model, through="2")
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    with pytest.raises(fl.DataError, match=what) as error:
        fit(model, *((data(), bad) if is_val else (bad, None)), cache=tmp_path / "cache")
    assert error.value.where.startswith("fit(val=...)" if is_val else "fit(train)")
    assert not calls
    assert not (tmp_path / "cache").exists()


def test_the_remedies_of_targets_work(tmp_path):
    names = sorted({"cat", "dog"})
    model = mlp()
    fl.freeze(model, through="2")
    texts = with_targets(lambda at: names.index(("dog", "cat")[at % 2]))
    assert fit(model, texts, epochs=1, cache=tmp_path).history[0].train_loss > 0


class Told(list):
    """Items beside all their targets in one tensor, as torchvision's data sets have them."""

    def __init__(self, targets):
        super().__init__((torch.ones(D), target) for target in targets)
        self.targets = targets


def test_targets_that_can_be_used_pass():
    for loss, targets in (
        ("cross_entropy", torch.tensor([0, 1, -100])), ("cross_entropy", torch.tensor([[0.5, 0.5], [1.0, 0.0]])),
        ("mse", torch.tensor([0.5, 1.0])), ("bce", torch.tensor([True, False])), ("cross_entropy", [0, 1, 1]),
        (lambda o, t: 0, ["cat", "dog"]), ("mse", torch.tensor([-100, -100])),
    ):  # fmt: skip
        assert check_targets(Told(targets), loss, "here") is None


def test_targets_that_a_dataset_offers_are_looked_at_without_its_items():
    class Offering(list):
        def __getitem__(self, index):
            raise AssertionError

        def sample_key(self, index):
            return b"key"

        def target(self, index):
            return 0.5

    with pytest.raises(fl.DataError, match="Cross entropy needs class indices"):
        check_targets(Offering([0, 1]), "cross_entropy", "here")


@pytest.mark.parametrize("targets", [torch.tensor([-100, -100]), torch.tensor([[-100], [-100]])])
def test_labels_that_are_all_ignored_are_told_wherever_they_are_held(targets):
    with pytest.raises(fl.DataError, match="No sample has a label") as error:
        check_targets(Told(targets), "cross_entropy", "here")
    assert (error.value.where, error.value.received) == ("here", "2 targets, all of them -100")
    with pytest.raises(fl.DataError, match="No sample has a label"):
        check_targets(TensorDataset(torch.ones(2, D), targets), "cross_entropy", "here")
    assert check_targets(TensorDataset(torch.ones(2, D), torch.zeros(2).long(), targets), None, "here") is None


COUNT = len(data())


class Held:
    """Labels in a list, as torchvision's datasets keep them."""

    def __init__(self, labels):
        self.inputs, self.targets = data().tensors[0], labels

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return self.inputs[index], self.targets[index]


@pytest.mark.parametrize("is_cached", [True, False])
@pytest.mark.parametrize("is_val", [True, False])
def test_a_label_that_is_no_class_is_named_before_anything_is_filled(tmp_path, is_cached, is_val):
    labels = [at % 2 for at in range(COUNT)]
    labels[40], labels[41] = -100, 2
    model = mlp()
    fl.freeze(model, through="2")
    before = [parameter.detach().clone() for parameter in model.parameters()]
    given = (data(), Held(labels)) if is_val else (Held(labels), None)
    cache = tmp_path / "cache" if is_cached else False
    with pytest.raises(fl.DataError, match="outside of the range") as error:
        fit(model, *given, cache=cache)
    assert error.value.where == f"{'fit(val=...)' if is_val else 'fit(train)'}, dataset[41]"
    assert error.value.received == "label 2; the output has 2 classes (0 to 1)"
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not list((tmp_path / "cache").glob("*/manifests"))  # no row is stored; the proof of the split may be
    labels[41] = 1
    fit(model, *given, cache=cache, epochs=1)


def test_kept_labels_that_are_transformed_on_their_way_are_those_of_the_items(tmp_path):
    class FromOne(Held):
        def __getitem__(self, index):
            return self.inputs[index], self.targets[index] - 1

    model = mlp()
    fl.freeze(model, through="2")
    assert fit(model, FromOne([1 + at % 2 for at in range(COUNT)]), cache=tmp_path, epochs=1).history


def test_a_metric_without_a_value_is_refused_by_the_targets_alone():
    values = TensorDataset(torch.zeros(4, 2), torch.ones(4))
    for metric, dataset, labels, what in (
        ("auroc", [0] * 4, torch.tensor([1, 1, -100, 1]), "two classes"), ("r2", values, None, "targets that differ")
    ):  # fmt: skip
        with pytest.raises(fl.DataError, match=what):
            check_metric_targets({metric: metric}, dataset, labels)
    check_metric_targets({"auroc": "auroc", "own": max}, [0] * 4, torch.tensor([0, 1, 0, 1]))
    check_metric_targets({"auroc": "auroc"}, [0] * 4, None)  # known when they are read
