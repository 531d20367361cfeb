"""What `frostline sweep` does: a new head, everything else frozen, many settings over the same stored rows."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from frostline.caching import FeatureCache
from frostline.core import inputs as batches
from frostline.core.arguments import as_count, as_numbers
from frostline.core.doors import public
from frostline.core.mismatch import told_mismatch
from frostline.core.new_files import check_new
from frostline.core.selection_records import SweepResult
from frostline.data import split_share, with_classes_of
from frostline.recipes.command_model import classes_of, set_up
from frostline.recipes.model_facts import model_facts
from frostline.recipes.save import save_model
from frostline.recipes.sweep import sweep
from frostline.selection import SOLVED, read_settings
from frostline.splitting import split
from frostline.training import OPTIMIZERS, DatasetBatches

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHOWN = 32  # samples that the model is split by: fewer may not show that some are padded


@dataclass(frozen=True)
class SweepReport:
    """What `frostline sweep` shows."""

    model: str
    weights: str
    classes: tuple[str, ...]
    result: SweepResult
    reused: str

    def text(self) -> str:
        """For people."""
        return f"Reused:   {self.reused}\n{self.result}\nSaved:    {self.weights} (head #{self.result.best.number})"


def settings_of(
    *, lr: str, weight_decay: str | None, dropout: str | None, width: str | None, optimizer: str
) -> list[dict[str, Any]]:  # fmt: skip
    """Every combination of what the options list; a solved head takes a weight decay only.

    Raises:
        DataError: If one of them is no number.
    """
    lists: dict[str, list[Any]] = {"lr": as_numbers("--lr", lr, "0.001,0.01")}
    for name, text in (("weight_decay", weight_decay), ("dropout", dropout), ("width", width)):
        if text is not None:
            numbers = as_numbers(f"--{name.replace('_', '-')}", text, "0,64" if name == "width" else "0,0.1")
            lists[name] = [int(one) if one.is_integer() else one for one in numbers] if name == "width" else numbers
    found: list[dict[str, Any]] = []
    for name in dict.fromkeys(part.strip() for part in optimizer.split(",")):
        own = {key: values for key, values in lists.items() if name != SOLVED or key == "weight_decay"}
        found += [{"optimizer": name, **dict(zip(own, row, strict=True))} for row in itertools.product(*own.values())]
    return found


@public("frostline sweep")
def sweep_command(
    model: nn.Module, dataset: Any, val: Any, *, name: str, settings: Sequence[dict[str, Any]], weights: str | None,
    freeze: str | None, val_share: float, epochs: int, batch_size: int, seed: int, out: Path,
    metric: Sequence[str] = ("accuracy",), halving: int | None = None, head: str | None = None, num_workers: int = 0,
    certificate: str | None = None,
) -> SweepReport:  # fmt: skip
    """Build the head, freeze, fill the cache, sweep, save the model with the best head."""
    check_new(out / "model.json", "--out", others="frostline fit takes --overwrite")
    read_settings(settings, optimizers=OPTIMIZERS, seed=seed)  # invalid settings are refused before anything runs
    if halving is not None:
        as_count("frostline sweep", "--halving", halving, least=2)
    whole, classes = dataset, classes_of(dataset)
    if val is None:
        dataset, val = split_share(dataset, val_share, seed)
    val = with_classes_of(dataset, val)
    reused = set_up(model, whole, name, weights, freeze, certificate, head)
    if torch.cuda.is_available():
        model.cuda()
    shown = DatasetBatches(dataset, _SHOWN).batch(list(range(min(_SHOWN, len(dataset)))))[0]
    shown = batches.move(shown, next(model.parameters()).device)
    with told_mismatch(model, shown):
        made = split(model, shown)
    cache = FeatureCache(out / "cache")
    rows, held_out = (
        cache.fill(made, own, batch_size=batch_size, num_workers=num_workers) for own in (dataset, val)
    )  # fmt: skip
    linear = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    result = sweep(made.head, rows, settings, val=held_out, metric=list(metric), epochs=epochs, batch_size=batch_size,
                   seed=seed, halving=halving)  # fmt: skip
    best = result.best
    facts = model_facts(name, whole, best_epoch=best.best_epoch, epochs=best.epochs, head=head, freeze=freeze,
                        metric=metric, weights=weights) | {"sweep": dict(best.settings)}  # fmt: skip
    if best.settings.get("width"):
        place = next(path for path in linear if isinstance(model.get_submodule(path), nn.Sequential))
        facts["hidden"] = {"layer": place, "width": best.settings["width"], "dropout": best.settings.get("dropout", 0)}
    return SweepReport(name, str(save_model(model, out, facts)), classes, result, reused)
