"""Real architectures, cut at a stage border and inside a block; many more are in `python -m exams.split`."""

import pytest
import torch

import frostline as fl
from exams.split.judging import num_frozen_upstream
from zoo import CASES, frozen_model

SMALL = ("resnet18", "vit_tiny_patch16_224", "mobilenetv3_small_100", "densenet121", "bert", "gpt2", "llama", "t5",
         "longformer", "mpnet")  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # timm and transformers warn about their own configurations
@pytest.mark.parametrize("cut", ["border", "inside"])
@pytest.mark.parametrize("case", [case for case in CASES if case.name in SMALL], ids=lambda case: case.name)
def test_split_is_exact_and_minimal(case, cut):
    model, _ = frozen_model(case, getattr(case, cut))
    split = fl.split(model, case.example(4))
    assert split.explain().verification.is_exact
    assert num_frozen_upstream(model, split, case.example(3)) == 0
    larger = split.verify(case.example(6))
    assert larger.largest_difference < 1e-5


@pytest.mark.filterwarnings("ignore")
def test_a_mask_with_padding_is_met_after_a_full_one():
    case = next(case for case in CASES if case.name == "bert")
    model, _ = frozen_model(case, case.border)
    model.eval()
    padded = case.example(4)
    padded["attention_mask"] = padded["attention_mask"].clone()
    padded["attention_mask"][1, 8:] = 0
    split = fl.split(model, padded)
    split.head.eval()
    torch.testing.assert_close(split.head(*split.extract(padded)).logits, model(**padded).logits)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_rows_that_were_stored_in_other_batches_are_the_model(tmp_path, name):
    case = next(case for case in CASES if case.name == name)
    model, _ = frozen_model(case, case.border)
    model.eval()
    batch = case.example(20)
    items = [({key: value[at] for key, value in batch.items()}, at) for at in range(20)]
    split = fl.split(model, case.example(4))
    data = fl.FeatureCache(tmp_path).fill(split, items, batch_size=8, progress=False)
    for features, at in data.loader(5, shuffle=True, seed=1):
        expected = model(**{key: value[at] for key, value in batch.items()}).logits
        torch.testing.assert_close(split.head(*features).logits, expected)
