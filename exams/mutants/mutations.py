"""The mutants of a source file: each one small change of one expression or statement."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change of one place.

    Attributes:
        path: The file, relative to the package.
        line: Where the change begins.
        kind: What is changed, such as `clause dropped`.
        before: The text that is replaced.
        after: The text that replaces it.
        span: First and last byte of it in the file.
        lines: First and last line of the statement that it is in: a test that runs none of them cannot notice.
    """

    path: str
    line: int
    kind: str
    before: str
    after: str
    span: tuple[int, int]
    lines: tuple[int, int]

    def applied(self, source: bytes) -> bytes:
        """The file with the change."""
        return source[: self.span[0]] + self.after.encode() + source[self.span[1] :]

    def __str__(self) -> str:
        before, after = (" ".join(text.split())[:90] for text in (self.before, self.after))
        return f"{self.path}:{self.line} {self.kind}: `{before}` becomes `{after}`"


def mutants_of(path: Path, name: str) -> list[Mutant]:
    """All mutants of a file, in the order of their places."""
    source = path.read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: list[Mutant] = []
    for node, lines in _mutable(ast.parse(source), (1, 1)):
        first = starts[node.lineno - 1] + node.col_offset
        last = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        before = source[first:last].decode()
        for kind, after in _changes(node):
            found.append(Mutant(name, node.lineno, kind, before, after, (first, last), lines))
    return sorted(found, key=lambda mutant: (mutant.span, mutant.kind, mutant.after))


_Place = tuple[ast.expr | ast.stmt, tuple[int, int]]
_SILENT = (ast.JoinedStr, ast.Assert, ast.Import, ast.ImportFrom, ast.Raise, ast.arg)


def _mutable(tree: ast.AST, lines: tuple[int, int]) -> Iterator[_Place]:
    """Expressions and statements that run, but for texts, types, assertions and what an error says."""
    skipped = {id(part) for part in _types(tree)}
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, _SILENT) or id(node) in skipped:
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        inside = _header(node) if isinstance(node, ast.stmt) else lines
        if isinstance(node, (ast.expr, ast.stmt)):
            yield node, inside
        yield from _mutable(node, inside)


def _types(node: ast.AST) -> list[ast.AST]:
    annotations = [getattr(node, name, None) for name in ("annotation", "returns")]
    return [part for part in annotations if part is not None]


def _header(node: ast.stmt) -> tuple[int, int]:
    body = getattr(node, "body", None)
    last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
    return node.lineno, max(node.lineno, last)


def _changes(node: ast.expr | ast.stmt) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Compare):
        yield from _compared(node)
    elif isinstance(node, ast.BoolOp):
        yield from _joined(node)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not dropped", f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS and not isinstance(node.left, ast.JoinedStr):
        yield "operator", f"({ast.unparse(ast.BinOp(node.left, _OPERATORS[type(node.op)](), node.right))})"
    elif isinstance(node, ast.Constant):
        yield from _valued(node.value)
    elif isinstance(node, (ast.If, ast.While)):
        pass  # its test is an expression of its own
    elif isinstance(node, ast.IfExp):
        yield "always the first", f"({ast.unparse(node.body)})"
        yield "always the second", f"({ast.unparse(node.orelse)})"
    elif isinstance(node, ast.Return) and node.value is not None and ast.unparse(node.value) not in ("None", "self"):
        yield "nothing returned", "return None"
    elif isinstance(node, (ast.Expr, ast.AugAssign, ast.Delete)):
        yield "statement dropped", "pass"
    elif isinstance(node, ast.Assign) and not all(isinstance(target, ast.Name) for target in node.targets):
        if all(isinstance(target, (ast.Attribute, ast.Subscript)) for target in node.targets):
            yield "statement dropped", "pass"
    elif isinstance(node, ast.Continue):
        yield "continue", "break"
    elif isinstance(node, ast.Break):
        yield "break", "continue"


def _compared(node: ast.Compare) -> Iterator[tuple[str, str]]:
    for at, op in enumerate(node.ops):
        for other in _COMPARISONS.get(type(op), ()):
            changed = copy.deepcopy(node)
            changed.ops[at] = other()
            yield "comparison", f"({ast.unparse(changed)})"


def _joined(node: ast.BoolOp) -> Iterator[tuple[str, str]]:
    changed = copy.deepcopy(node)
    changed.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield "and/or", f"({ast.unparse(changed)})"
    for at in range(len(node.values)):
        rest = [value for other, value in enumerate(node.values) if other != at]
        kept = rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
        yield "clause dropped", f"({ast.unparse(kept)})"


def _valued(value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, bool):
        yield "value", str(not value)
    elif isinstance(value, int):
        yield "value", f"({value + 1})"
    elif isinstance(value, float):
        yield "value", f"({value * 10 if value else 1.0!r})"
