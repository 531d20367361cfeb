import torch
from torch.utils.data import TensorDataset

from frostline.data import Arrays, Part, split_share
from frostline.data.counts import SampleCounts, place_of_sample, sample_counts, shared_samples


def arrays(*counts: int) -> Arrays:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return Arrays(torch.zeros(len(labels), 2), labels, tuple(f"c{at}" for at in range(len(counts))))


def test_classes_are_counted_in_both_and_missing_ones_named():
    train, val = split_share(arrays(10, 5, 1), 0.2, seed=0)
    found = sample_counts(train, val)
    assert found == SampleCounts(13, 3, {"c0": 8, "c1": 4, "c2": 1}, {"c0": 2, "c1": 1, "c2": 0})
    assert str(found) == (
        "13 training samples, 3 validation samples; 3 classes: c0 8 + 2, c1 4 + 1, c2 1 + 0; "
        "no validation samples of c2"
    )


def test_without_validation_data():
    assert str(sample_counts(arrays(2, 3))) == "5 training samples, no validation data; 2 classes: c0 2, c1 3"


def test_of_many_classes_the_range_is_told():
    train = arrays(*range(1, 21))
    assert str(sample_counts(train, arrays(*[0] * 8, *[2] * 12))) == (
        "210 training samples, 24 validation samples; 20 classes: 1 to 20 training samples each, "
        "0 to 2 validation samples each; no validation samples of c0, c1, c2, c3, c4 and 3 more"
    )


def test_labels_without_names_and_data_without_labels():
    plain = TensorDataset(torch.zeros(6, 2), torch.tensor([0, 1, 1, 0, 1, -100]))
    assert str(sample_counts(plain, plain)) == ("6 training samples, 6 validation samples; 2 classes: 0 2 + 2, 1 3 + 3")
    numbers = TensorDataset(torch.zeros(3, 2), torch.zeros(3, 2))
    assert str(sample_counts(numbers, numbers)) == "3 training samples, 3 validation samples"
    ages = TensorDataset(torch.zeros(4, 2), torch.tensor([31, 72, 18, 44]))
    assert str(sample_counts(ages)) == "4 training samples, no validation data"
    assert sample_counts([(0, 0)] * 3).train_classes == {}


def test_samples_of_the_same_content_in_both_are_found():
    inputs = torch.arange(12.0).view(6, 2)
    train = Arrays(inputs, torch.tensor([0, 1, 0, 1, 0, 1]))
    val = Part(Arrays(inputs.flip(0) + torch.tensor([[0.0], [99]] * 3), train.labels), [1, 2, 4])
    assert shared_samples(train, val) == [1, 2]
    assert place_of_sample(val, 1) == "sample 2"
    assert shared_samples(train, [(0, 0)]) == []
