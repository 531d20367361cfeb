"""Small networks of layers that all look alike, saved under names of every kind and ported into modules written apart.

Three laws. With golden outputs a port is exact or refused, whatever the names. Without them it is exact, ambiguous or
refused where names are honest or mean nothing. Where names lie, as nothing but names can, it may be wrong, and the
certificate must say that nothing was run.
"""

from __future__ import annotations

import argparse
import random
import string
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from frostline.core.errors import AmbiguousPortError, FrostlineError
from frostline.recipes.port import port

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WIDTH = 6
LIMIT = 1e-4
EXACT, AMBIGUOUS, REFUSED, BELIEVED, WRONG = "exact", "ambiguous", "refused", "believed lying names", "silently wrong"


def chain(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    """One after the other."""
    for layer in layers:
        x = layer(x).tanh()
    return x


def towers(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    """Two chains side by side, of different weight."""
    half = len(layers) // 2
    return chain(layers[:half], x) - 2 * chain(layers[half:], x)


def ladder(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    """An encoder and a decoder that takes what the encoder gave at its level."""
    half, kept = len(layers) // 2, []
    for layer in layers[:half]:
        x = layer(x).tanh()
        kept.append(x)
    for layer in layers[half:]:
        x = layer(x + (kept.pop() if kept else 0)).sigmoid()
    return x


def attention(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    """Query, key, value and output, as often as there are four layers; what is left follows."""
    for at in range(0, len(layers) - 3, 4):
        query, key, value, out = layers[at : at + 4]
        x = x + out((query(x) @ key(x).mT).softmax(-1) @ value(x))
    return chain(layers[len(layers) // 4 * 4 :], x)


def shared(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    """The first layer again after all."""
    return layers[0](chain(layers, x))


def summed(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    """Twins: exchanged layers compute the same."""
    return sum((layer(x) for layer in layers), x)


KINDS: dict[str, Callable[[Sequence[nn.Module], Tensor], Tensor]] = {
    "chain": chain, "towers": towers, "ladder": ladder, "attention": attention, "shared": shared, "summed": summed,
}  # fmt: skip
ROLES = {"attention": ("query", "key", "value", "output"), "ladder": ("down", "up"), "towers": ("left", "right")}


class Written(nn.Module):
    """A module with layers registered in an order and under names of its own."""

    def __init__(self, kind: str, names: Sequence[str], registered: Sequence[int]) -> None:
        super().__init__()
        for at in registered:
            holder: nn.Module = self
            *path, last = names[at].split(".")
            for part in path:
                if not hasattr(holder, part):
                    holder.add_module(part, nn.Module())
                holder = holder.get_submodule(part)
            holder.add_module(last, nn.Linear(WIDTH, WIDTH))
        self.kind, self.names = kind, list(names)

    def forward(self, x: Tensor) -> Tensor:
        return KINDS[self.kind]([self.get_submodule(name) for name in self.names], x)


def roles(kind: str, count: int) -> list[str]:
    """What each layer is, in the order in which it runs: honest names."""
    words = ROLES.get(kind, ("layer",))
    if kind == "attention":
        whole = count // 4 * 4
        return [f"block_{at // 4}.{words[at % 4]}" for at in range(whole)] + [
            f"tail_{at}" for at in range(count - whole)
        ]
    if len(words) == 2:
        half = count // 2
        return [f"{words[0]}_{at}" for at in range(half)] + [f"{words[1]}_{at}" for at in range(count - half)]
    return [f"{words[0]}_{at}" for at in range(count)]


def meaningless(chance: random.Random, count: int) -> list[str]:
    """Words of nobody."""
    return ["".join(chance.choices(string.ascii_lowercase, k=7)) for _ in range(count)]


SYNONYMS = {"query": "q", "key": "k", "value": "v", "output": "o", "layer": "fc", "block": "stages"}


def foreign(names: Sequence[str]) -> list[str]:
    """The same in other words, counted from one."""
    made: list[str] = []
    for name in names:
        parts = [str(int(part) + 1) if part.isdigit() else SYNONYMS.get(part, part)
                 for part in name.replace(".", "_").split("_")]  # fmt: skip
        made.append(".".join(parts))
    return made


def exchanged(chance: random.Random, names: Sequence[str], count: int) -> list[str]:
    """Names of which some belong to others."""
    made, places = list(names), chance.sample(range(len(names)), min(count, len(names)))
    for at, other in zip(places, (*places[1:], places[0]), strict=True):
        made[at] = names[other]
    return made


@dataclass(frozen=True)
class Case:
    """One file and one module.

    Attributes:
        kind: Of the network.
        style: Of the names in the file.
        form: Of the file.
        is_honest: Whether names of the file are right, or mean nothing.
        source: What the file was saved from.
        names: Of its layers, in the order in which they run.
        target: The module.
    """

    kind: str
    style: str
    form: str
    is_honest: bool
    source: Written
    names: list[str]
    target: Written


def draw(seed: int) -> Case:
    """The case of a seed."""
    chance = random.Random(seed)
    torch.manual_seed(seed)
    kind, count = chance.choice(sorted(KINDS)), chance.randint(2, 6)
    own = roles(kind, count)
    order = chance.sample(range(count), count)
    targets = chance.choice((own, foreign(own), meaningless(chance, count)))
    style = chance.choice(("honest", "foreign", "meaningless", "counted as made", "partly lying", "lying"))
    names = {
        "honest": own, "foreign": foreign(own), "meaningless": meaningless(chance, count),
        "counted as made": [f"dense_{at}" for at in chance.sample(range(count), count)],
        "partly lying": exchanged(chance, own, 2), "lying": exchanged(chance, own, count),
    }[style]  # fmt: skip
    form = chance.choice(("safetensors", "npz", "npz of Keras"))
    is_honest = style in ("honest", "foreign", "meaningless")
    source = Written(kind, own, range(count)).eval()
    return Case(kind, style, form, is_honest, source, names, Written(kind, targets, order).eval())


def save(case: Case, folder: Path, chance: random.Random) -> Path:
    """The file of a case, its tensors in any order."""
    arrays: dict[str, Tensor] = {}
    for own, name in zip(case.source.names, case.names, strict=True):
        layer = case.source.get_submodule(own)
        assert isinstance(layer, nn.Linear)
        if case.form == "npz of Keras":
            name = name.replace(".", "/")
            arrays |= {f"{name}/kernel": layer.weight.detach().T, f"{name}/bias": layer.bias.detach()}
        else:
            arrays |= {f"{name}.weight": layer.weight.detach(), f"{name}.bias": layer.bias.detach()}
    items = list(arrays.items())
    chance.shuffle(items)
    path = folder / ("case.safetensors" if case.form == "safetensors" else "case.npz")
    if case.form == "safetensors":
        save_file({name: value.contiguous() for name, value in items}, path)
    else:
        np.savez(path, **{name: value.numpy() for name, value in items})
    return path


def judge(seed: int, *, has_golden: bool) -> tuple[Case, str, str]:
    """The case of a seed, what became of its port, and why."""
    case, chance = draw(seed), random.Random(seed)
    x = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(seed))
    wanted = case.source(x).detach()
    with tempfile.TemporaryDirectory() as folder:
        path = save(case, Path(folder), chance)
        try:
            certificate = port(path, case.target, golden=(x, wanted) if has_golden else None)
        except AmbiguousPortError as error:
            return case, AMBIGUOUS, str(error)
        except FrostlineError as error:
            return case, REFUSED, str(error)
    other = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(seed + 1))
    with torch.no_grad():
        is_same = torch.allclose(case.target(other), case.source(other), atol=LIMIT)
    told = "; ".join(f"{one.unit} -> {one.layer}: {one.reason}" for one in certificate.mapping[::2])
    if is_same:
        return case, EXACT, told
    is_said = not has_golden and not case.is_honest and certificate.tested.startswith("nothing was run")
    return case, BELIEVED if is_said else WRONG, told


def counts(first: int, count: int) -> tuple[Counter[tuple[str, str]], list[str]]:
    """What became of so many cases, each without and with golden outputs, by style; and the wrong ones in words."""
    found: Counter[tuple[str, str]] = Counter()
    wrong: list[str] = []
    for seed in range(first, first + count):
        for has_golden in (False, True):
            case, outcome, why = judge(seed, has_golden=has_golden)
            found["with golden outputs" if has_golden else case.style, outcome] += 1
            if outcome == WRONG:
                wrong.append(f"seed {seed}, {case.kind}, {case.style}, {case.form}, golden {has_golden}: {why}")
    return found, wrong


def main() -> int:
    """Parse the options and run; 1 if a port was silently wrong."""
    parser = argparse.ArgumentParser(prog="python -m exams.fuzz.assignments", description=__doc__)
    parser.add_argument("--count", type=int, default=5_000, help="cases")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found, wrong = counts(options.first, options.count)
    for (style, outcome), number in sorted(found.items()):
        sys.stdout.write(f"{style:22}{outcome:22}{number:7,}\n")
    sys.stdout.write("".join(f"{line}\n" for line in wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
