"""A split that takes batches of any length, over the proof of its candidate."""

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.core.padding import PaddedBatch
from frostline.splitting.lengths import length_candidate
from helpers_lengths import Sentences, pad, sentences
from helpers_vision import import_torchvision


def batch(length, count=4):
    ids = torch.randint(1, 30, (count, length), generator=torch.Generator().manual_seed(length))
    return {"ids": ids, "mask": torch.ones_like(ids)}


def followed(pool="first"):
    torch.manual_seed(0)
    model = Sentences(pool)
    fl.freeze(model, through="low")
    split = fl.split(model, batch(9))
    head = split.head
    split.follow_lengths(batch(8), batch(12))
    assert split.head is head
    return model, split


def test_batches_of_every_length_are_taken_and_head_and_model_are_equal():
    model, split = followed()
    model.eval()
    for length in (3, 9, 17):
        inputs = batch(length, 3)
        assert torch.equal(split.head.eval()(*split.extract(inputs)), model(**inputs))
    assert [tensor.shape for tensor in split.frontier] == [(-1,), (-1,), (-1, 8)]
    assert "(length, 8) float32" in str(split.explain())
    assert "own length" in str(split.explain())


def test_the_recipe_does_not_follow_the_example_and_follows_the_weights():
    (_, one), (model, other) = followed(), followed()
    assert dict(one.recipe) == dict(other.recipe)
    other.check_unchanged()
    with torch.no_grad():
        model.low.query.weight.add_(1)
    with pytest.raises(fl.SplitError, match="was changed after"):
        other.check_unchanged()


class Translator(nn.Module):
    """The mean of one sequence is added to every place of another one."""

    def __init__(self):
        super().__init__()
        self.words, self.last = nn.Embedding(30, 8), nn.Linear(8, 3)

    def forward(self, source, target):
        own = self.words(source) * (source > 0)[..., None]
        return self.last(self.words(target) + own.mean(1, keepdim=True) * source.shape[1])


def test_outputs_are_masked_by_the_sizes_of_the_sequence_that_they_follow():
    torch.manual_seed(0)
    model = Translator()
    fl.freeze(model, through="words")
    both = [{"source": batch(length)["ids"], "target": batch(length)["ids"]} for length in (8, 16)]
    split = fl.split(model, both[0])
    split.follow_lengths(*both)
    data = [ids for ids, _ in sentences(8)]
    pad_all = nn.utils.rnn.pad_sequence
    inputs = {"source": pad_all([torch.cat([ids, ids]) for ids in data[:4]], True), "target": pad_all(data[4:], True)}
    sizes = {"source": [(2 * len(ids),) for ids in data[:4]], "target": [(len(ids),) for ids in data[4:]]}
    assert inputs["source"].shape != inputs["target"].shape
    features = [own.clone() for own in split.extract(inputs)]
    for at, tensor in enumerate(split.frontier):
        own = inputs["source" if features[at].shape[:2] == inputs["source"].shape else "target"]
        if tensor.dtype.is_floating_point:
            features[at][own == 0] = 0
    split.prove_padded(PaddedBatch(inputs, sizes), tuple(features))


def test_outputs_at_each_place_are_masked_by_the_sizes_of_the_samples():
    _, split = followed("each")
    data = sentences()
    inputs = {name: value for name, value in pad(data[:4]).items() if name != "labels"}
    sizes = {name: [tuple(ids.shape) for ids, _ in data[:4]] for name in inputs}
    features = [own.clone() for own in split.extract(inputs)]
    features[2][inputs["mask"] == 0] = 0
    split.prove_padded(PaddedBatch(inputs, sizes), tuple(features))
    features[2][inputs["mask"] == 1] += 1
    with pytest.raises(fl.SplitError, match="does not equal the model"):
        split.prove_padded(PaddedBatch(inputs, sizes), tuple(features))


@pytest.mark.filterwarnings("ignore")  # transformers warns about its own configuration
def test_keys_and_values_of_frozen_layers_are_left_out():
    import_torchvision()
    from transformers import GPT2Config, GPT2ForSequenceClassification

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, n_embd=8, n_layer=2, n_head=2, n_positions=32, num_labels=2, pad_token_id=0,
                        bos_token_id=1, eos_token_id=2)  # fmt: skip
    model = GPT2ForSequenceClassification(config)
    fl.freeze(model, through="transformer.h.0")
    inputs = [{"input_ids": batch(n)["ids"], "attention_mask": batch(n)["mask"]} for n in (8, 12)]
    candidate, _ = length_candidate(model, *inputs)
    assert candidate.left_out == {".past_key_values.layers.0.keys", ".past_key_values.layers.0.values"}
    assert [tensor.name for tensor in candidate.frontier][-1] == "transformer.h.0"
