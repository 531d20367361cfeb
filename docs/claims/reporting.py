"""What every experiment needs: the digits, the seeds, one training loop, and the files it writes.

Legend: N samples, F features.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

mpl.use("Agg")
HERE = Path(__file__).parent
RIGHT, PARTLY, WRONG = "right", "partly right", "wrong"


@dataclass(frozen=True)
class Claim:
    """A statement of the source, what was measured, and whether that bears it out."""

    statement: str
    measured: str
    verdict: str


@dataclass(frozen=True)
class Table:
    """Rows of a page; cells are texts."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Digits:
    """scikit-learn's digits (real scans), standardised by one mean and deviation; 30% held out."""

    train_NF: Tensor
    train_labels: Tensor
    test_NF: Tensor
    test_labels: Tensor


def digits(seed: int = 0) -> Digits:
    """The split that belongs to a seed."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images_NF, labels = torch.tensor(found.data, dtype=torch.float32), torch.tensor(found.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    train, test = order[: int(0.7 * len(order))], order[int(0.7 * len(order)) :]
    mean, deviation = images_NF[train].mean(), images_NF[train].std()
    images_NF = (images_NF - mean) / deviation
    return Digits(images_NF[train], labels[train], images_NF[test], labels[test])


def train(
    model: nn.Module, data: Digits, optimizer: torch.optim.Optimizer, epochs: int, seed: int,
    clip: Callable[[Iterable[Tensor]], Any] | None = None, batch_size: int = 64,
) -> list[float]:  # fmt: skip
    """Cross entropy on shuffled batches; the losses of all steps, cut off where they are no longer numbers."""
    torch.manual_seed(seed)
    model.train()
    losses: list[float] = []
    for _ in range(epochs):
        for index in torch.randperm(len(data.train_labels)).split(batch_size):
            if len(index) < 2:  # a BatchNorm needs two samples
                continue
            loss = F.cross_entropy(model(data.train_NF[index]), data.train_labels[index])
            optimizer.zero_grad()
            loss.backward()
            if clip is not None:
                clip(model.parameters())
            optimizer.step()
            losses.append(loss.item())
            if losses[-1] != losses[-1]:
                return losses
    return losses


@torch.no_grad()
def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Share of right answers in inference mode."""
    model.eval()
    return (model(inputs).argmax(dim=1) == labels).double().mean().item()


def spread(values: Sequence[float], digits_: int = 3) -> str:
    """`median (lowest to highest)`."""
    middle = statistics.median(values)
    return f"{middle:.{digits_}g} ({min(values):.{digits_}g} to {max(values):.{digits_}g})"


def main(name: str, doc: str, run: Callable[[bool], tuple[dict[str, Any], list[Claim], list[Table], Any]]) -> None:
    """Run an experiment on one thread and write its `.json`, `.svg` and `.md`."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument(
        "--quick", action="store_true", help="a tiny run, to see that it works; its figures mean nothing"
    )
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the files")
    options = parser.parse_args()
    if options.quick and options.out == HERE:
        parser.error("--quick needs --out: its figures are not for the pages")
    torch.set_num_threads(1)
    mpl.rcParams |= {"svg.hashsalt": "frostline", "svg.fonttype": "none", "font.size": 8}
    started, cpu_started = time.perf_counter(), time.process_time()
    figures, claims, tables, picture = run(options.quick)
    about = {
        "title": doc.splitlines()[0], "machine": machine(), "date": time.strftime("%Y-%m-%d"),
        "command": f"python docs/claims/{name}.py", "seconds": round(time.perf_counter() - started, 1),
        "processor_seconds": round(time.process_time() - cpu_started, 1),
    }  # fmt: skip
    picture.tight_layout()
    picture.savefig(options.out / f"{name}.svg", metadata={"Date": None})
    claimed = [vars(claim) for claim in claims]
    (options.out / f"{name}.json").write_text(
        json.dumps({**about, "claims": claimed, "figures": figures}, indent=1) + "\n"
    )
    (options.out / f"{name}.md").write_text(_page(name, doc, about, claims, tables))
    print((options.out / f"{name}.md").read_text())


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of Markdown."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _page(name: str, doc: str, about: dict[str, Any], claims: list[Claim], tables: list[Table]) -> str:
    title, _, rest = doc.strip().partition("\n")
    lines = [f"# {title}", "", *rest.strip().splitlines(), ""]
    lines += [f"{about['machine']}; {about['date']}; `{about['command']}`, {about['seconds']:.0f} s "
              f"({about['processor_seconds']:.0f} s of processor time); the figures are in "
              f"[{name}.json]({name}.json). Written by the script.", ""]  # fmt: skip
    lines += table(
        ("statement", "measured", "verdict"), [(c.statement, c.measured, f"**{c.verdict}**") for c in claims]
    )
    lines += ["", f"![{title}]({name}.svg)", ""]
    for part in tables:
        lines += [f"## {part.title}", "", *table(part.head, part.rows), ""]
    return "\n".join(lines)


def machine() -> str:
    """Processor, cores, versions, and what else the machine was doing."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    load = os.getloadavg()[0]
    return (
        f"{names[0] if names else platform.machine()}, one thread of {os.cpu_count()} cores, load {load:.1f}; "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )
