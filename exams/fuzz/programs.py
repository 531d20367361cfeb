"""A generated model as a plain value, and its source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .kind import Kind

_HEADER = (
    "import collections, contextvars, dataclasses, functools, io, itertools, math, os, pickle, random\n"
    "import threading, types, weakref\n"
    "import numpy as np\nimport torch\nimport torch.nn.functional as F\nfrom torch import nn\n"
    "from torch.utils.checkpoint import checkpoint\n\nSEEN_FEATURES = []\n"
)
_FIRST = {"r": "nn.Linear(4, 4)", "t": "nn.Linear(4, 4)", "i": "nn.Embedding(9, 4)"}
_OUTPUTS = {"tensor": "{}", "mapping": "{{'logits': {}}}", "tuple": "({},)"}


@dataclass(frozen=True)
class Step:
    """One statement: its kind, whether it stands in the frozen part (`f`) or not (`t`), and the values it reads."""

    kind: Kind
    place: str
    target: str
    a: str
    b: str
    f: str

    @property
    def number(self) -> str:
        """What makes its names its own."""
        return self.target[1:]

    @property
    def has_weights(self) -> bool:
        """Whether it reads parameters of its own, or of the head."""
        return "$G" in self.kind.init or "$L" in self.kind.init or "self.out" in self.kind.forward


@dataclass(frozen=True)
class Program:
    """A model, its data and its training.

    Attributes:
        layout: `r` rows of floats (B, 4), `t` tokens (B, 3, 4), `i` ids (B, 3).
        inputs: `tensor`, `pair` (with a mask) or `mapping` (with a mask).
        steps: The statements of forward, between `v0 = first(x)` and the classifier.
        result: The last value.
        output: `tensor`, `mapping` or `tuple`.
        later: How samples after the first ones differ in kind.
        count: Number of samples.
        batch: Samples per batch.
        optimizer: Name of the optimizer.
        seed: Of the weights and the samples.
    """

    layout: str
    inputs: str
    steps: tuple[Step, ...]
    result: str
    output: str
    later: str
    count: int
    batch: int
    optimizer: str
    seed: int

    @property
    def tags(self) -> list[str]:
        """The kind of each statement, with its place."""
        return [f"{step.place} {step.kind.tag}" for step in self.steps]

    def without(self, at: int) -> Program:
        """The program without one statement; its readers read what it read."""
        gone = self.steps[at]

        def mend(name: str) -> str:
            return gone.a if name == gone.target else name

        steps = [replace(s, a=mend(s.a), b=mend(s.b), f=mend(s.f)) for s in self.steps if s is not gone]
        return replace(self, steps=tuple(steps), result=mend(self.result))

    def frozen_values(self) -> set[str]:
        """Names of values that no trainable weight has touched."""
        frozen = {"v0"}
        for step in self.steps:
            reads = {step.a, step.b, step.f}
            if step.place == "f" or (not step.has_weights and reads <= frozen):
                frozen.add(step.target)
        return frozen

    def features(self) -> set[str]:
        """Names of frozen values that the trainable part reads, and of all that the frozen part makes."""
        frozen = self.frozen_values()
        read = {self.result, *(step.target for step in self.steps if step.place == "f")}
        for step in self.steps:
            if step.target not in frozen:
                text = step.kind.forward
                read |= {name for sign, name in (("$a", step.a), ("$b", step.b), ("$f", step.f)) if sign in text}
        return frozen & read

    def source(self, *, is_probed: bool = False) -> str:
        """The file that defines `Model`; probed, it writes its features to `SEEN_FEATURES`."""
        features = self.features() if is_probed else set()
        prelude, init, forward, frozen = [], [], [], ["first"]

        def see(name: str) -> None:
            if name in features:
                forward.append(f"SEEN_FEATURES.append(('{name}', {name}.detach().clone()))")

        forward.append(self._start())
        see("v0")
        for step in self.steps:
            parts = _fill(step, self.layout)
            prelude.append(parts[0])
            init += parts[1].splitlines()
            forward += parts[2].splitlines()
            see(step.target)
            if step.place == "f" and "$L" in step.kind.init:
                frozen.append(f"l{step.number}")
        arguments = "x" if self.inputs == "tensor" else "x, m"
        pooled = "h" if self.layout == "r" else "h.mean(1)"
        lines = [
            _HEADER, *(text for text in prelude if text), f"FROZEN = {frozen!r}\n\n", "class Model(nn.Module):",
            "    def __init__(self):", "        super().__init__()", f"        self.first = {_FIRST[self.layout]}",
            *_indented(init), "        self.out = nn.Linear(4, 2)", "", "    def finish(self, h):",
            f"        return {_OUTPUTS[self.output].format(f'self.out({pooled})')}", "",
            f"    def forward(self, {arguments}):", *_indented(forward), f"        return self.finish({self.result})",
        ]  # fmt: skip
        return "\n".join(lines) + "\n"

    def _start(self) -> str:
        if self.inputs == "tensor":
            return "v0 = self.first(x)"
        return f"v0 = self.first(x) * m{'' if self.layout == 'r' else '.unsqueeze(-1)'}"


def _indented(lines: list[str]) -> list[str]:
    return ["        " + line for line in lines]


def _fill(step: Step, layout: str) -> list[str]:
    name = f"l{step.number}"
    values = {
        "t": step.target, "a": step.a, "b": step.b, "f": step.f, "y": "x", "n": step.number, "l": name,
        "L": f"self.{name}", "G": str(step.place == "t"), "S": "4" if layout == "r" else "3, 4",
        "w": "[:, None]" if layout == "r" else "[:, None, None]", "w1": "" if layout == "r" else "[:, None]",
    }  # fmt: skip
    prelude, init = step.kind.prelude, step.kind.init
    if "class " in init:  # a class of its own stands behind the line that makes it
        init, _, rest = init.partition("\n")
        prelude += rest
    return [Template(text).substitute(values) for text in (prelude, init, step.kind.forward)]
