"""The planner: seconds per epoch predicted and measured, and its choice against no cache and the frontier.

Processor time on one thread, so that other programs on the machine count little: `time.perf_counter` is the processor's
clock while this runs, for the library too.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl

EPOCHS, BATCH, ROUNDS = 4, 32, 2
PIXELS, IMAGES = 64, 128


def run(device: str, *, is_quick: bool = False) -> dict[str, Any]:
    """Ratios by pair of a model and a line."""
    pairs = _pairs()
    chosen = dict(list(pairs.items())[:2]) if is_quick else pairs
    clock, threads = time.perf_counter, torch.get_num_threads()
    torch.set_num_threads(1)
    if device == "cpu":
        time.perf_counter = time.process_time
    try:
        found = {name: _measured(make, data) for name, (make, data) in chosen.items()}
    finally:
        time.perf_counter = clock
        torch.set_num_threads(threads)
    figures: dict[str, Any] = {}
    for name, own in found.items():
        figures |= {f"{name}: {key}": value for key, value in own.items()}
    errors = [value for key, value in figures.items() if "predicted / measured" in key]
    figures["largest error of a prediction"] = max(abs(value - 1) for value in errors)
    figures["slowest choice / best of no cache and the frontier"] = max(
        value for key, value in figures.items() if key.endswith("choice / best")
    )
    return figures


def _measured(make: Callable[[], nn.Module], data: TensorDataset) -> dict[str, Any]:
    """Runs in turns: without a cache, with the frontier stored, as planned."""
    runs: dict[str, list[Any]] = {"no cache": [], "the frontier": [], "the choice": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(ROUNDS):
            for name, own in runs.items():
                root = Path(folder) / f"{name} {turn}"
                cache: Any = {"no cache": False, "the frontier": True, "the choice": "auto"}[name]
                torch.manual_seed(0)
                own.append(
                    fl.fit(
                        make(), data, epochs=EPOCHS, batch_size=BATCH, cache=cache, out=root, loss=_logits,
                        monitor=False, progress=False,
                    )
                )  # fmt: skip
    plans = [result.plan for result in runs["the choice"]]
    chosen = {plan.chosen.name for plan in plans}
    for name in chosen & {"no cache", "the frontier"}:  # the same run under two names
        runs[name] = runs["the choice"] = [*runs[name], *runs["the choice"]] if len(chosen) == 1 else runs[name]
    epoch_s = {name: statistics.median(e.elapsed_s for r in own for e in r.history) for name, own in runs.items()}
    fill_s = {name: statistics.median(result.timings.fill_s for result in own) for name, own in runs.items()}
    total_s = {name: fill_s[name] + EPOCHS * epoch_s[name] for name in runs}
    found: dict[str, Any] = {"chosen": "; ".join(sorted(chosen))}
    for name in ("no cache", "the frontier"):
        told = [own.epoch_s for plan in plans for own in plan.alternatives if own.name == name]
        found[f"predicted / measured, {name}"] = statistics.median(told) / epoch_s[name]
    if any(plan.chosen.again for plan in plans):
        found["predicted / measured, the choice"] = (
            statistics.median(plan.chosen.epoch_s for plan in plans) / epoch_s["the choice"]
        )
        sizes = [own.bytes_per_sample for own in plans[0].alternatives if own.name == "the frontier"]
        found["bytes, choice / frontier"] = plans[0].chosen.bytes_per_sample / sizes[0]
    best = min(total_s["no cache"], total_s["the frontier"])
    found["choice / best"] = total_s["the choice"] / best
    found["seconds per epoch without a cache"] = epoch_s["no cache"]
    return found


def _pairs() -> dict[str, tuple[Callable[[], nn.Module], TensorDataset]]:
    images = TensorDataset(torch.randn(IMAGES, 3, PIXELS, PIXELS), torch.randint(0, 10, (IMAGES,)))
    vectors = TensorDataset(torch.randn(4096, 64), torch.randint(0, 10, (4096,)))
    tokens = TensorDataset(torch.randint(0, 1000, (512, 32)), torch.randint(0, 3, (512,)))
    return {
        "resnet18 through layer3": (lambda: _timm("resnet18", "layer3"), images),
        "resnet18 through layer1": (lambda: _timm("resnet18", "layer1"), images),
        "resnet18 through its stem": (lambda: _timm("resnet18", "bn1"), images),
        "mobilenetv3 through blocks.3": (lambda: _timm("mobilenetv3_small_100", "blocks.3"), images),
        "vit_tiny through blocks.9": (
            lambda: _timm("vit_tiny_patch16_224", "blocks.9", img_size=PIXELS), images,
        ),
        "BERT with LoRA in its last layer": (_lora, tokens),
        "an MLP of no cost": (_mlp, vectors),
        "frozen word vectors": (_words, tokens),
    }  # fmt: skip


def _timm(name: str, through: str, **options: Any) -> nn.Module:
    from helpers_vision import import_torchvision

    import_torchvision()
    import timm

    model = timm.create_model(name, num_classes=10, **options)
    fl.freeze(model, through=through)
    return model


def _lora() -> nn.Module:
    from helpers_vision import import_torchvision

    import_torchvision()
    from peft import LoraConfig, get_peft_model
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(hidden_size=128, num_hidden_layers=4, num_attention_heads=4, intermediate_size=512,
                        vocab_size=1000, max_position_embeddings=64, num_labels=3)  # fmt: skip
    places = {"target_modules": ["query", "value"], "layers_to_transform": [3]}
    model = get_peft_model(BertForSequenceClassification(config), LoraConfig(task_type="SEQ_CLS", r=4, **places))
    bert = model.base_model.model.bert
    fl.freeze(model, modules=[bert.embeddings, *bert.encoder.layer[:-1]])
    return model


def _logits(outputs: Any, target: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(getattr(outputs, "logits", outputs), target)


def _mlp() -> nn.Module:
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    fl.freeze(model, through="0")
    return model


def _words() -> nn.Module:
    model = nn.Sequential(nn.Embedding(1000, 128), nn.Flatten(), nn.Linear(128 * 32, 64), nn.ReLU(), nn.Linear(64, 3))
    fl.freeze(model, through="0")
    return model


warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
