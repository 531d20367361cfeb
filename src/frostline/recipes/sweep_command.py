"""What `frostline sweep` does: a new head, everything else frozen, many settings over the same stored rows."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from frostline.caching import EXACT
from frostline.core.arguments import as_count, as_numbers
from frostline.core.doors import public
from frostline.core.new_files import check_new
from frostline.core.selection_records import SweepResult
from frostline.data import Part, split_share, with_classes_of
from frostline.recipes.command_model import classes_of, set_up
from frostline.recipes.model_facts import model_facts
from frostline.recipes.models import augmented_images
from frostline.recipes.save import save_model
from frostline.recipes.sweep import sweep
from frostline.selection import SOLVED, read_settings
from frostline.training import OPTIMIZERS

if TYPE_CHECKING:
    from collections.abc import Sequence


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
    certificate: str | None = None, views: int | None = None, augment: str | None = None, cache: Any = None,
    storage: str = EXACT, frozen_pass: Sequence[str] | None = None,
) -> SweepReport:  # fmt: skip
    """Build the head, freeze, sweep over stored rows, save the model with the best head; options are those of `fit`."""
    check_new(out / "model.json", "--out", others="frostline fit takes --overwrite")
    read_settings(settings, optimizers=OPTIMIZERS, seed=seed)  # invalid settings are refused before anything runs
    if halving is not None:
        as_count("frostline sweep", "--halving", halving, least=2)
    whole, classes = dataset, classes_of(dataset)
    if val is None:
        dataset, val = split_share(dataset, val_share, seed)
    if views is not None or augment is not None:
        augmented = augmented_images(whole, model, augment if augment is not None else "crop,flip")
        dataset = augmented if dataset is whole else Part(augmented, dataset.indices)
    val = with_classes_of(dataset, val)
    reused = set_up(model, whole, name, weights, freeze, certificate, head)
    linear = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    result = sweep(model, dataset, settings, val=val, metric=list(metric), epochs=epochs, batch_size=batch_size,
                   seed=seed, halving=halving, num_workers=num_workers, views=views, storage=storage,
                   frozen_pass=frozen_pass, cache=out / "cache" if cache is None else cache)  # fmt: skip
    best = result.best
    facts = model_facts(name, whole, best_epoch=best.best_epoch, epochs=best.epochs, head=head, freeze=freeze,
                        metric=metric, weights=weights) | {"sweep": dict(best.settings)}  # fmt: skip
    if best.settings.get("width"):
        place = next(path for path in linear if isinstance(model.get_submodule(path), nn.Sequential))
        facts["hidden"] = {"layer": place, "width": best.settings["width"], "dropout": best.settings.get("dropout", 0)}
    return SweepReport(name, str(save_model(model, out, facts)), classes, result, reused)
