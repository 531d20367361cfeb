"""Samples of differing length: a small BERT on sentences, cached at their own lengths, and uncached."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from helpers_vision import import_torchvision
from torch import nn
from torch.nn.utils.rnn import pad_sequence

import frostline as fl

BATCH = 32


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Bytes, padding, losses, and processor time of an epoch, on one thread."""
    import_torchvision()
    from transformers import BertConfig, BertForSequenceClassification

    torch.set_num_threads(1)
    torch.manual_seed(0)
    count, epochs, width, layers = (128, 1, 64, 4) if is_quick else (512, 2, 128, 6)
    config = BertConfig(vocab_size=1000, hidden_size=width, num_hidden_layers=layers, num_attention_heads=4,
                        intermediate_size=4 * width, num_labels=2)  # fmt: skip
    model = BertForSequenceClassification(config).to(device)
    fl.freeze(model, through=f"bert.encoder.layer.{layers - 2}")
    plain, data = copy.deepcopy(model), _sentences(count)
    inputs = {name: value.to(device) for name, value in _pad(data[:4]).items() if name != "labels"}
    split = fl.split(model, inputs)
    started = time.process_time()
    cached = fl.FeatureCache(tempfile.mkdtemp()).fill(split, data, batch_size=BATCH, collate_fn=_pad, progress=False)
    fill_s = time.process_time() - started
    tokens = sum(len(ids) for ids, _ in data)
    needed = tokens * (4 * width + 16)  # a row of features, a word and its mask for each token
    loader, grouped = (cached.loader(BATCH, shuffle=True, by_length=by_length) for by_length in (False, True))
    waste = _waste(features[1] for features, _ in loader)
    waste_by_length = _waste(features[1] for features, _ in grouped)
    batches = [[(features, target) for features, target in grouped] for _ in range(epochs)]
    same = [[({"input_ids": f[0], "attention_mask": f[1]}, target) for f, target in epoch] for epoch in batches]
    ours, cached_s = _trained(split.head, lambda f: split.head(*f), batches)
    theirs, plain_s = _trained(plain, lambda f: plain(**f), same)
    return {
        "sentences, tokens": f"{count}, {tokens}",
        "bytes stored / bytes of the true lengths": cached.figures.bytes / needed,
        "padding of a batch, any order": waste,
        "padding of a batch, by length": waste_by_length,
        "largest difference of a loss, cached and uncached": max(abs(a - b) for a, b in zip(ours, theirs, strict=True)),
        "processor time of an epoch, uncached / cached": plain_s / cached_s,
        "processor time of the fill, in uncached epochs": fill_s / (plain_s / epochs),
    }


def _sentences(count: int) -> list[tuple[torch.Tensor, int]]:
    """Lengths as those of reviews: most short, some long."""
    lengths = (torch.randn(count) * 0.6 + 3.2).exp().long().clamp(4, 128).tolist()
    return [(torch.randint(1, 1000, (length,)), at % 2) for at, length in enumerate(lengths)]


def _pad(items: list[tuple[torch.Tensor, int]]) -> dict[str, torch.Tensor]:
    ids = pad_sequence([ids for ids, _ in items], batch_first=True)
    return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": torch.tensor([y for _, y in items])}


def _waste(masks: Iterable[torch.Tensor]) -> float:
    pairs = [(int(mask.sum()), mask.numel()) for mask in masks]
    return 1 - sum(own for own, _ in pairs) / sum(whole for _, whole in pairs)


def _trained(module: nn.Module, call: Callable[[Any], Any], epochs: list[Any]) -> tuple[list[float], float]:
    """(losses, processor time)."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer, losses = torch.optim.AdamW(trained, 1e-4), list[float]()
    module.train()
    torch.manual_seed(1)
    started = time.process_time()
    for epoch in epochs:
        for batch, target in epoch:
            loss = nn.functional.cross_entropy(call(batch).logits, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses, time.process_time() - started
