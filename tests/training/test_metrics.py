import dataclasses
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.training.losses import CrossEntropy
from frostline.training.metrics import make_collector, make_metrics

Pair = namedtuple("Pair", ["a", "b"])


def collected(metric, batches):
    collector = make_collector(metric)
    for output, target in batches:
        collector.add(output, target)
    return collector.result()


def test_accuracy_is_the_metric_of_classification_alone():
    assert make_metrics(None, "cross_entropy") == {"accuracy": "accuracy"}
    assert make_metrics(None, nn.CrossEntropyLoss(weight=torch.ones(3))) == {"accuracy": "accuracy"}
    assert make_metrics(None, CrossEntropy(label_smoothing=0.1)) == {"accuracy": "accuracy"}
    assert make_metrics(None, "mse") == make_metrics(None, nn.MSELoss()) == {}
    assert make_metrics(max, "mse") == {"metric": max}
    assert list(make_metrics({"f1": "f1", "own": max}, "mse")) == ["f1", "own"]
    collection = nn.ModuleDict({"one": nn.L1Loss(), "two": nn.MSELoss()})  # as torchmetrics' MetricCollection
    assert make_metrics(collection, "mse") == dict(collection.items())
    assert make_metrics(["top3", "auroc"], "mse") == {"top3": "top3", "auroc": "auroc"}


@pytest.mark.parametrize("metric", ["acuracy", 3, {"f1": None}, ["accuracy", "top"], "top0", [3]])
def test_a_metric_is_a_known_name_or_a_callable(metric):
    with pytest.raises(fl.DataError, match="is not usable") as error:
        make_metrics(metric, "cross_entropy")
    assert "accuracy" in error.value.do


def test_accuracy_leaves_out_labels_of_minus_100():
    logits = torch.tensor([[2.0, 1], [0, 1], [3, 4], [1, 0]])
    assert collected("accuracy", [(logits, torch.tensor([0, -100, 0, 0]))]) == pytest.approx(2 / 3)
    assert collected("accuracy", [(logits, torch.tensor([[0], [1], [0], [0]]))]) == 0.75
    assert collected("accuracy", [(logits, torch.eye(2)[[0, 1, 0, 0]])]) == 0.75


def test_f1_is_that_of_the_whole_set_and_not_a_mean_over_batches():
    logits, labels = torch.eye(2)[[0, 0, 1, 1, 0]], torch.tensor([0, 0, 1, 0, 1])
    halves = [(logits[:2], labels[:2]), (logits[2:], labels[2:])]
    assert collected("f1", halves) == collected("f1", [(logits, labels)]) == pytest.approx((4 / 6 + 2 / 4) / 2)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x, x + 1), lambda x: {"a": x, "b": (x,)},
                                  lambda x: Pair(x, x), lambda x: SimpleNamespace(logits=x, loss=None)])  # fmt: skip
def test_a_metric_of_the_callers_own_gets_whole_outputs_of_the_same_type(wrap):
    x, seen = torch.arange(10.0).view(5, 2), []
    value = collected(lambda o, t: seen.append((o, t)) or 0.5, [(wrap(x[:3]), x[:3, 0]), (wrap(x[3:]), x[3:, 0])])
    (output, target), expected = seen[0], wrap(x)
    assert (value, len(seen), type(output)) == (0.5, 1, type(expected))
    assert str(output) == str(expected)
    assert torch.equal(target, x[:, 0])


def test_outputs_that_do_not_fit_together_and_metrics_that_are_no_number_are_named():
    with pytest.raises(fl.DataError, match="do not fit together"):
        collected(lambda o, t: 0.0, [(torch.ones(2, 3), torch.ones(2)), (torch.ones(2, 4), torch.ones(2))])
    with pytest.raises(fl.DataError, match="not one number"):
        collected(lambda o, t: o, [(torch.ones(2, 3), torch.ones(2))])


def test_numbers_of_a_batch_become_one_entry_each_and_what_is_no_tensor_stays():
    def wrap(x, loss):
        return {"loss": torch.tensor(loss), "logits": x, "name": "net", "kind": nn.Linear, "model": MODEL, "none": None}

    x, seen = torch.arange(10.0).view(5, 2), []
    collected(lambda o, t: seen.append(o) or 0.5, [(wrap(x[:3], 1.0), x[:3]), (wrap(x[3:], 2.0), x[3:])])
    (output,) = seen
    assert output["loss"].tolist() == [1.0, 2.0]
    assert torch.equal(output["logits"], x)
    assert (output["name"], output["kind"], output["none"]) == ("net", nn.Linear, None)
    assert output["model"] is MODEL


def test_texts_of_samples_are_joined_and_mappings_keep_their_type():
    class Own(dict):
        pass

    seen = []
    batches = [(Own(a=torch.ones(2, 1)), ["x", "y"]), (Own(a=torch.zeros(1, 1)), ["z"])]  # the last one is short
    collected(lambda o, t: seen.append((o, t)) or 0.5, batches)
    output, target = seen[0]
    assert (type(output), target) == (Own, ["x", "y", "z"])
    assert output["a"].tolist() == [[1.0], [1.0], [0.0]]
    assert batches[0][0]["a"].shape == (2, 1)  # what the model gave is left alone


def test_a_metric_may_give_any_kind_of_number_and_gets_no_gradients():
    x = torch.ones(2, 3, requires_grad=True)
    assert collected(lambda o, t: torch.tensor(0.25), [(x, x)]) == 0.25
    assert collected(lambda o, t: int(not o.requires_grad and not t.requires_grad), [(x * 2, x * 2)]) == 1.0


def test_a_set_without_a_label_that_counts_has_no_score():
    with pytest.raises(fl.DataError, match="A metric needs validation labels that count"):
        collected("accuracy", [(torch.zeros(2, 3), torch.full((2,), -100))])


def test_classes_that_were_predicted_and_are_not_there_count_against_f1():
    logits = torch.eye(3)[[0, 0, 1, 2]]
    assert collected("f1", [(logits, torch.tensor([0, 0, 1, 1]))]) == pytest.approx((1 + 2 / 3 + 0) / 3)


@pytest.mark.parametrize(("lengths", "expected"), [((2, 2), 2), ((2, 1), 3)])
def test_lists_of_tensors_are_parts_of_an_output_or_one_entry_a_sample(lengths, expected):
    seen = []
    collected(lambda o, t: seen.append(o) or 0.5, [([torch.ones(3, 1)] * count, torch.ones(3)) for count in lengths])
    assert len(seen[0]) == expected
    assert seen[0][0].shape == ((6, 1) if expected == 2 else (3, 1))


MODEL = nn.Linear(2, 2)


@dataclasses.dataclass(slots=True)
class Slots:
    a: torch.Tensor
    b: torch.Tensor


def test_outputs_without_a_dict_of_their_own_are_joined_too():
    x, seen = torch.arange(10.0).view(5, 2), []
    parts = [(Slots(x[:3], x[:3, 0]), x[:3, 0]), (Slots(x[3:], x[3:, 0]), x[3:, 0])]
    assert collected(lambda o, t: seen.append(o) or 0.5, parts) == 0.5
    assert torch.equal(seen[0].a, x)
    assert torch.equal(seen[0].b, x[:, 0])
    assert len(parts[0][0].a) == 3


def test_plain_numbers_of_an_output_are_kept_where_they_differ_from_batch_to_batch():
    seen = []
    batches = [({"y": torch.ones(n), "n": n, "k": 7}, torch.ones(n)) for n in (2, 1)]
    collected(lambda o, t: seen.append(o) or 0.0, batches)
    assert seen[0]["n"].tolist() == [2, 1]
    assert seen[0]["k"] == 7


def test_the_label_that_the_loss_leaves_out_counts_in_no_metric_by_name():
    collector = make_collector("accuracy", 255)
    collector.add(torch.eye(3), torch.tensor([0, 255, 1]))
    assert collector.result() == 0.5


class Accumulating:
    """A metric that keeps counts over its calls and gives that of the last call, as torchmetrics does."""

    def __init__(self):
        self.calls = 0

    def __call__(self, output, target):
        self.calls += 1
        return (output.argmax(1) == target).float().mean()


def test_a_metric_with_counts_of_its_own_is_called_once_a_validation():
    metric, logits, labels = Accumulating(), torch.randn(7, 3), torch.arange(7) % 3
    value = collected(metric, [(logits[:4], labels[:4]), (logits[4:], labels[4:])])
    assert (value, metric.calls) == (pytest.approx(float((logits.argmax(1) == labels).float().mean())), 1)


def test_texts_and_other_things_of_an_output_that_differ_are_those_of_the_first_batch():
    seen = []
    batches = [({"y": torch.ones(n), "name": name, "more": more}, torch.ones(n))
               for n, name, more in ((2, "a", None), (1, "b", ...))]  # fmt: skip
    collected(lambda o, t: seen.append(o) or 0.0, batches)
    assert (seen[0]["name"], seen[0]["more"], len(seen[0]["y"])) == ("a", None, 3)


def test_top_k_is_that_of_scikit_learn():
    from sklearn.metrics import top_k_accuracy_score

    logits, labels = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 6
    halves = [(logits[:15], labels[:15]), (logits[15:], labels[15:])]
    for k in (1, 2, 5):
        wanted = top_k_accuracy_score(labels, logits, k=k, labels=range(6))
        assert collected(f"top{k}", halves) == pytest.approx(wanted)
    assert collected("top1", halves) == pytest.approx(collected("accuracy", halves))
    assert collected("top2", [(torch.eye(3), torch.tensor([2, -100, -100]))]) in (0.0, 1.0)
    with pytest.raises(fl.DataError, match="A metric needs validation labels that count"):
        collected("top2", [(torch.eye(3), torch.full((3,), -100))])
    with pytest.raises(fl.DataError, match="The metric top7 needs more classes"):
        collected("top7", halves)


def test_auroc_is_that_of_scikit_learn():
    from sklearn.metrics import roc_auc_score

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(60, 4, generator=generator).round(decimals=1)  # rounded: some are equal
    labels = torch.arange(60) % 4
    halves = [(logits[:31], labels[:31]), (logits[31:], labels[31:])]
    wanted = roc_auc_score(labels, logits.double().softmax(1), multi_class="ovr")
    assert collected("auroc", halves) == pytest.approx(wanted)
    assert collected("auroc", [(logits, torch.eye(4)[labels])]) == pytest.approx(wanted)
    truth = (torch.rand(60, 4, generator=generator) > 0.6).float()
    assert collected("auroc", [(logits, truth)]) == pytest.approx(roc_auc_score(truth, logits))
    one = (truth[:, 0], logits[:, :1])
    wanted = roc_auc_score(*one)
    assert collected("auroc", [(one[1], one[0])]) == pytest.approx(wanted)
    assert collected("auroc", [(one[1][:, 0], one[0].long())]) == pytest.approx(wanted)


def test_auroc_leaves_out_classes_that_are_not_there_and_ignored_labels():
    logits = torch.tensor([[2.0, 1, 0], [0, 1, 0], [1, 3, 0], [9, 9, 9]])
    assert collected("auroc", [(logits, torch.tensor([0, 1, 1, -100]))]) == 1.0
    with pytest.raises(fl.DataError, match="AUROC needs validation samples of two classes") as error:
        collected("auroc", [(logits, torch.zeros(4).long())])
    assert error.value.received == "4 samples, all of one class"


def test_r2_is_that_of_scikit_learn():
    from sklearn.metrics import r2_score

    truth = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    found = truth + 0.3 * truth.flip(0)
    assert collected("r2", [(found[:11], truth[:11]), (found[11:], truth[11:])]) == pytest.approx(
        r2_score(truth, found)
    )
    assert collected("r2", [(found[:, :1], truth[:, 0])]) == pytest.approx(r2_score(truth[:, 0], found[:, 0]))
    assert collected("r2", [(truth, truth)]) == 1.0
    with pytest.raises(fl.DataError, match="R2 needs validation targets that differ"):
        collected("r2", [(found, torch.ones(30, 2))])
    with pytest.raises(fl.DataError, match="R2 compares one number with one number"):
        collected("r2", [(found, truth[:, 0])])


def test_metrics_by_name_take_the_logits_of_any_form_of_output():
    output = SimpleNamespace(logits=torch.eye(3), loss=None)
    assert collected("auroc", [(output, torch.arange(3))]) == 1.0
    assert collected("top2", [({"a": torch.eye(3)}, torch.arange(3))]) == 1.0
