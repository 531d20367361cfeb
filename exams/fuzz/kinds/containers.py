"""What passes between modules in containers, keyword arguments and objects."""

from __future__ import annotations

from ..kind import Kind

_PAIR = "class Pair$n(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(4, 4)\n\n    def forward(self, x):\n        return {body}\n"


def _made(tag: str, body: str, read: str, head: str = "") -> Kind:
    return Kind(tag, f"o$n = $L($a)\n$t = {read}", "$L = Pair$n()", head + _PAIR.replace("{body}", body))


KINDS = (
    _made("tuple", "self.l(x), x", "o$n[0] + o$n[1]"),
    _made("nested_tuple", "(self.l(x), (x, [x * 2]))", "o$n[0] + o$n[1][1][0]"),
    _made("dict", "{'y': self.l(x), 'n': 2}", "o$n['y'] * o$n['n']"),
    _made("ordered_dict", "collections.OrderedDict(y=self.l(x))", "o$n['y']"),
    _made("default_dict", "collections.defaultdict(list, y=[self.l(x)])", "o$n['y'][0]"),
    _made("list", "[self.l(x), None]", "o$n[0]"),
    _made(
        "namedtuple", "Named$n(self.l(x), x)", "o$n.y + o$n.x", "Named$n = collections.namedtuple('Named$n', 'y x')\n"
    ),
    _made(
        "dataclass",
        "Data$n(self.l(x), 0.5)",
        "o$n.y * o$n.s",
        "@dataclasses.dataclass\nclass Data$n:\n    y: torch.Tensor\n    s: float\n",
    ),
    _made("simple_namespace", "types.SimpleNamespace(y=self.l(x))", "o$n.y"),
    _made(
        "object",
        "Object$n(self.l(x))",
        "o$n.get()",
        "class Object$n:\n    def __init__(self, y):\n        self.y = y\n\n    def get(self):\n        return self.y * 2\n",
    ),
    _made("generator", "(v for v in (self.l(x), x))", "sum(o$n)"),
    _made("function_made", "lambda v: self.l(x) + v", "o$n($b)"),
    _made("partial", "functools.partial(torch.add, self.l(x))", "o$n($b)"),
    _made("iterator", "iter([self.l(x)])", "next(o$n)"),
    _made("returns_size", "(self.l(x), len(x))", "o$n[0] / o$n[1]"),
    _made("returns_number", "(self.l(x), float(x.detach().abs().max() > 5))", "o$n[0] * (1 + o$n[1])"),
    _made("returns_shape", "(self.l(x), x.shape)", "o$n[0].view(o$n[1])"),
    _made(
        "returns_none_or", "(self.l(x), x if self.training else None)", "o$n[0] if o$n[1] is None else o$n[0] + o$n[1]"
    ),
    _made("returns_input", "x", "o$n * 0.9"),
    _made("in_place_child", "self.l(x).mul_(0.5)", "o$n"),
    _made("view_child", "self.l(x).view(x.shape)", "o$n"),
    Kind(
        "keyword",
        "$t = $L(x=$a, y=$b)",
        "$L = Keyword$n()",
        "class Keyword$n(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(4, 4)\n\n    def forward(self, *, x, y=None, scale=1.0):\n        return self.l(x) * scale + (0 if y is None else y)\n",
    ),
    Kind(
        "list_argument",
        "$t = $L([$a, $b, None])",
        "$L = Listed$n()",
        "class Listed$n(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(4, 4)\n\n    def forward(self, xs):\n        return sum(self.l(x) for x in xs if x is not None)\n",
    ),
    Kind(
        "mutated_list",
        "l$n = []\n$L($a, l$n)\n$t = $a + l$n[0]",
        "$L = Filling$n()",
        "class Filling$n(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(4, 4)\n\n    def forward(self, x, into):\n        into.append(self.l(x))\n",
    ),
    Kind(
        "collected",
        "c$n = [$a]\nfor _ in range(2):\n    c$n.append($L(c$n[-1]).tanh())\n$t = torch.stack(c$n, 0).mean(0)",
        "$L = nn.Linear(4, 4)",
    ),
    Kind("mapped", "$t = torch.stack([*map($L, $a.unbind(0))])", "$L = nn.Linear(4, 4)"),
    Kind(
        "tensor_subclass",
        "$t = $a + $f.as_subclass(Mine$n).as_subclass(torch.Tensor)",
        "",
        "class Mine$n(torch.Tensor):\n    pass\n",
    ),
    Kind("tree_map", "$t = torch.utils._pytree.tree_map(torch.tanh, {'a': $a})['a']"),
    Kind(
        "callback", "$t = self.apply_to$n(lambda v: $L(v))", "$L = nn.Linear(4, 4)\nself.apply_to$n = None", weight=0.0
    ),
    Kind("forward_method", "$t = $L.forward($a)", "$L = nn.Linear(4, 4)"),
    Kind(
        "other_method",
        "$t = $L.encode($a)",
        "$L = Method$n()",
        "class Method$n(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(4, 4)\n        self.norm = nn.LayerNorm(4)\n\n    def encode(self, x):\n        return self.norm(self.l(x))\n\n    def forward(self, x):\n        return self.encode(x)\n",
    ),
    Kind(
        "mixed_child",
        "$t = $L($a)",
        "$L = Mixed$n()\n$L.l.requires_grad_(False)",
        "class Mixed$n(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(4, 4)\n        self.k = nn.Linear(4, 4)\n\n    def forward(self, x):\n        return self.k(self.l(x).tanh())\n",
        places="t",
    ),
    Kind(
        "module_outside_tree",
        "$t = $a + self.hidden$n[0]($f)",
        "self.hidden$n = [nn.Linear(4, 4).requires_grad_(False)]",
    ),
)
