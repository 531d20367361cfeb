import pytest
import torch
from torch import nn

import frostline as fl
from frostline.core.errors import LayerNotFound
from frostline.selection import find_lines
from helpers_selection import OutOfOrder, ResNet
from helpers_vision import import_torchvision


def names(lines):
    return [line.through for line in lines]


def test_borders_of_blocks_in_order_with_everything_first_and_the_output_layer_last():
    lines = find_lines(ResNet().eval(), torch.randn(4, 3, 8, 8))
    assert names(lines) == [None, "bn", "blocks.0", "blocks.1", "blocks"]
    assert [line.tap for line in lines] == [None, "blocks.0.conv1", "blocks.1.conv1", "blocks.2.conv1", "fc"]
    assert lines[-1].num_trainable == 3 * 8 + 3
    assert lines[0].num_trainable == sum(p.numel() for p in ResNet().parameters())
    assert all(line.why_not == "" for line in lines)


@pytest.mark.parametrize("through", ["bn", "blocks.0", "blocks"])
def test_bytes_and_parameters_are_those_of_a_real_split(through):
    model, x = ResNet().eval(), torch.randn(4, 3, 8, 8)
    line = next(line for line in find_lines(model, x) if line.through == through)
    fl.freeze(model, through=through)
    split = fl.split(model, x)
    assert line.bytes_per_sample == sum(tensor.bytes_per_sample for tensor in split.frontier)
    assert line.num_trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_a_layer_and_its_norm_stay_together():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4),
                          nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)).eval()  # fmt: skip
    assert names(find_lines(model, torch.randn(4, 3, 8, 8))) == [None, "1", "4"]


def test_at_most_twelve_lines_with_both_ends():
    layers = [layer for _ in range(30) for layer in (nn.Linear(6, 6), nn.ReLU())]
    found = find_lines(nn.Sequential(*layers, nn.Linear(6, 2)), torch.randn(4, 6))
    assert len(found) == 12
    assert names(found)[:2] == [None, "0"]
    assert names(found)[-1] == "58"


def test_the_line_that_a_name_cannot_draw_says_why():
    lines = find_lines(OutOfOrder(), torch.randn(4, 4))
    assert names(lines) == [None, "low", "middle"]
    assert lines[1].why_not == "'top' would be frozen too, but runs above 'middle'"
    assert lines[2].why_not == "nothing above it would train"


def test_layers_that_run_again_above_a_line_are_seen():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.c(self.a(self.b(self.a(x))))

    lines = find_lines(Twice(), torch.randn(4, 4), ["a", "b"])
    assert lines[1].why_not == "'a' runs again above 'b'"


def test_candidates_by_name_and_unknown_ones_with_the_nearest():
    model, x = ResNet().eval(), torch.randn(4, 3, 8, 8)
    assert names(find_lines(model, x, ["blocks.1", "conv"])) == [None, "conv", "blocks.1"]
    with pytest.raises(LayerNotFound, match="no layer named 'blocks.7'") as caught:
        find_lines(model, x, ["blocks.7"])
    assert "blocks.0" in caught.value.do


def test_lines_of_a_transformer_with_a_mask():
    import_torchvision()  # transformers' BERT imports it, too
    import transformers

    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64, vocab_size=50
    )
    model = transformers.BertForSequenceClassification(config).eval()
    inputs = {"input_ids": torch.randint(0, 50, (4, 33)), "attention_mask": torch.ones(4, 33, dtype=torch.int64)}
    inputs["attention_mask"][1, 20:] = 0  # with padding, the mask over pairs of positions is larger than the features
    found = names(find_lines(model, inputs))
    assert found == [None, "bert.embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1", "bert.encoder", "bert"]
