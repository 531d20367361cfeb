"""Memory of a model between calls, wherever Python or torch can keep it; and what is set from outside."""

from __future__ import annotations

from ..kind import Kind

_MEAN = "$f.detach().flatten(0, -2).mean(0)"
KINDS = (
    Kind("counter", "self.c$n += 1\n$t = $a * (1 + 0.01 * self.c$n)", "self.c$n = 0"),
    Kind("counter_unused", "self.c$n += 1\n$t = $a * 0.9", "self.c$n = 0"),
    Kind(
        "counter_in_training", "if self.training:\n    self.c$n += 1\n$t = $a / (1 + 0.01 * self.c$n)", "self.c$n = 0"
    ),
    Kind(
        "average_attribute",
        f"self.m$n = 0.9 * self.m$n + 0.1 * {_MEAN}\n$t = $a - self.m$n",
        "self.m$n = torch.zeros(4)",
    ),
    Kind("average_list", f"self.s$n.append({_MEAN})\n$t = $a - torch.stack(self.s$n).mean(0)", "self.s$n = []"),
    Kind(
        "average_dict",
        f"self.d$n['m'] = 0.9 * self.d$n['m'] + 0.1 * {_MEAN}\n$t = $a - self.d$n['m']",
        "self.d$n = {'m': torch.zeros(4)}",
    ),
    Kind("log_dict", f"self.d$n['seen'] = float({_MEAN}.sum())\n$t = $a * 0.9", "self.d$n = {}"),
    Kind(
        "last_attribute",
        f"z$n = $a if self.h$n is None else $a + 0.1 * self.h$n\nself.h$n = {_MEAN}\n$t = z$n",
        "self.h$n = None",
    ),
    Kind(
        "global_counter",
        "global COUNT$n\nCOUNT$n += 1\n$t = $a * (1 + 0.01 * COUNT$n)",
        "global COUNT$n\nCOUNT$n = 0",
        "COUNT$n = 0\n",
    ),
    Kind(
        "global_dict",
        "STATE$n['c'] += 1\n$t = $a * (1 + 0.01 * STATE$n['c'])",
        "STATE$n['c'] = 0",
        "STATE$n = {'c': 0}\n",
    ),
    Kind(
        "global_list",
        f"SEEN$n.append({_MEAN})\n$t = $a - torch.stack(SEEN$n).mean(0)",
        "SEEN$n.clear()",
        "SEEN$n = []\n",
    ),
    Kind(
        "class_attribute", "Model.c$n = getattr(Model, 'c$n', 0) + 1\n$t = $a * (1 + 0.01 * Model.c$n)", "Model.c$n = 0"
    ),
    Kind(
        "closure",
        "$t = $a * self.k$n()",
        "self.k$n = counting$n()",
        "def counting$n():\n    c = [0]\n\n    def step():\n        c[0] += 1\n        return 1 + 0.01 * c[0]\n\n    return step\n",
    ),
    Kind(
        "nonlocal",
        "$t = $a * self.k$n()",
        "self.k$n = counted$n()",
        "def counted$n():\n    c = 0\n\n    def step():\n        nonlocal c\n        c += 1\n        return 1 + 0.01 * c\n\n    return step\n",
    ),
    Kind(
        "default_argument",
        "$t = $a * remembering$n()",
        "remembering$n.__defaults__[0].clear()",
        "def remembering$n(seen=[]):\n    seen.append(1)\n    return 1 + 0.01 * len(seen)\n",
    ),
    Kind(
        "function_attribute",
        "$t = $a * stepping$n()",
        "stepping$n.c = 0",
        "def stepping$n():\n    stepping$n.c += 1\n    return 1 + 0.01 * stepping$n.c\n",
    ),
    Kind(
        "generator_object",
        "$t = $a * next(self.g$n)",
        "self.g$n = growing$n()",
        "def growing$n():\n    v = 1.0\n    while True:\n        v += 0.01\n        yield v\n",
    ),
    Kind("itertools", "$t = $a * (1 + 0.01 * next(self.g$n))", "self.g$n = itertools.count()"),
    Kind(
        "deque",
        f"self.q$n.append({_MEAN})\n$t = $a - sum(self.q$n) / len(self.q$n)",
        "self.q$n = collections.deque(maxlen=3)",
    ),
    Kind(
        "dataclass_state",
        "self.st$n.c += 1\n$t = $a * (1 + 0.01 * self.st$n.c)",
        "self.st$n = State$n()",
        "@dataclasses.dataclass\nclass State$n:\n    c: int = 0\n",
    ),
    Kind(
        "slots_state",
        "self.st$n.c += 1\n$t = $a * (1 + 0.01 * self.st$n.c)",
        "self.st$n = Slotted$n()",
        "class Slotted$n:\n    __slots__ = ('c',)\n\n    def __init__(self):\n        self.c = 0\n",
    ),
    Kind("numpy_state", "self.v$n += 0.01\n$t = $a * float(self.v$n[0])", "self.v$n = np.ones(1)"),
    Kind(
        "lru_cache",
        "$t = $a + table$n(len($a))",
        "table$n.cache_clear()",
        "@functools.lru_cache\ndef table$n(n):\n    return torch.arange(n).float()$w * torch.ones(4) * 0.1\n",
    ),
    Kind(
        "lru_method",
        "$t = $a + self.rows$n(len($a))",
        "self.rows$n = functools.lru_cache(lambda n: torch.ones(n, $S) * 0.1)",
    ),
    Kind(
        "memo_by_size",
        "if len($a) not in self.memo$n:\n    self.memo$n[len($a)] = torch.ones(len($a), $S) * 0.1\n$t = $a + self.memo$n[len($a)]",
        "self.memo$n = {}",
    ),
    Kind(
        "memo_of_values",
        "if 'v' not in self.memo$n:\n    self.memo$n['v'] = $f.detach().mean()\n$t = $a + self.memo$n['v']",
        "self.memo$n = {}",
    ),
    Kind(
        "memo_of_values_global",
        "if 'v' not in MEMO$n:\n    MEMO$n['v'] = $f.detach().mean()\n$t = $a + MEMO$n['v']",
        "MEMO$n.clear()",
        "MEMO$n = {}\n",
    ),
    Kind(
        "memo_of_values_class",
        "if 'v' not in self.kept$n:\n    self.kept$n['v'] = $f.detach().mean()\n$t = $a + self.kept$n['v']",
        "type(self).kept$n = {}",
    ),
    Kind(
        "memo_of_values_default",
        "$t = $a + first$n($f)",
        "first$n.__defaults__[0].clear()",
        "def first$n(x, memo={}):\n    if 'v' not in memo:\n        memo['v'] = x.detach().mean()\n    return memo['v']\n",
    ),
    Kind(
        "memo_by_size_global",
        "if $a.shape[-1] not in SIZES$n:\n    SIZES$n[$a.shape[-1]] = torch.linspace(0.5, 1, $a.shape[-1])\n$t = $a * SIZES$n[$a.shape[-1]]",
        "SIZES$n.clear()",
        "SIZES$n = {}\n",
    ),
    Kind(
        "cached_mask",
        "if self.mask$n is None or len(self.mask$n) < len($a):\n    self.mask$n = torch.arange(len($a)).float()\n$t = $a + self.mask$n[:len($a)]$w",
        "self.mask$n = None",
    ),
    Kind(
        "cached_property",
        "$t = $a * self.h$n.value",
        "self.h$n = Lazy$n()",
        "class Lazy$n:\n    @functools.cached_property\n    def value(self):\n        return 0.9\n",
    ),
    Kind(
        "first_call",
        f"if not self.ready$n:\n    self.m$n.copy_({_MEAN})\n    self.ready$n = True\n$t = $a - self.m$n",
        "self.ready$n = False\nself.register_buffer('m$n', torch.zeros(4))",
    ),
    Kind(
        "first_training_call",
        f"if self.training and not self.ready$n:\n    self.m$n.copy_({_MEAN})\n    self.ready$n = True\n$t = $a - self.m$n",
        "self.ready$n = False\nself.register_buffer('m$n', torch.zeros(4))",
    ),
    Kind(
        "first_call_flag_buffer",
        f"if self.ready$n == 0:\n    self.m$n.copy_({_MEAN})\n    self.ready$n.fill_(1)\n$t = $a - self.m$n",
        "self.register_buffer('ready$n', torch.tensor(0))\nself.register_buffer('m$n', torch.zeros(4))",
    ),
    Kind("hasattr_init", "if not hasattr(self, 'w$n'):\n    self.w$n = $f.detach().mean()\n$t = $a + self.w$n"),
    Kind("buffer_in_place", "self.b$n.add_(0.01)\n$t = $a * self.b$n", "self.register_buffer('b$n', torch.ones(4))"),
    Kind(
        "buffer_average",
        f"if self.training:\n    self.b$n.mul_(0.9).add_({_MEAN} * 0.1)\n$t = $a - self.b$n",
        "self.register_buffer('b$n', torch.zeros(4))",
    ),
    Kind(
        "buffer_average_own",
        "if self.training:\n    self.b$n.mul_(0.9).add_($a.detach().flatten(0, -2).mean(0) * 0.1)\n$t = $a - self.b$n",
        "self.register_buffer('b$n', torch.zeros(4))",
    ),
    Kind(
        "buffer_assigned",
        f"self.b$n = self.b$n * 0.9 + {_MEAN} * 0.1\n$t = $a - self.b$n",
        "self.register_buffer('b$n', torch.zeros(4))",
    ),
    Kind("buffer_copy", f"self.b$n.copy_({_MEAN})\n$t = $a - self.b$n", "self.register_buffer('b$n', torch.zeros(4))"),
    Kind(
        "buffer_data",
        "if self.training:\n    self.b$n.data = self.b$n.data * 0.9 + $a.detach().flatten(0, -2).mean(0) * 0.1\n$t = $a - self.b$n",
        "self.register_buffer('b$n', torch.zeros(4))",
    ),
    Kind(
        "buffer_lerp_unread",
        f"self.b$n.lerp_({_MEAN}, 0.1)\n$t = $a * 0.9",
        "self.register_buffer('b$n', torch.zeros(4))",
    ),
    Kind("buffer_registered", "self.register_buffer('r$n', torch.ones(4) * len($a))\n$t = $a + self.r$n"),
    Kind(
        "buffer_not_persistent",
        "self.b$n += 0.01\n$t = $a * self.b$n",
        "self.register_buffer('b$n', torch.ones(4), persistent=False)",
    ),
    Kind(
        "buffer_numpy", "self.b$n.numpy()[:] += 0.01\n$t = $a * self.b$n", "self.register_buffer('b$n', torch.ones(4))"
    ),
    Kind(
        "buffer_queue",
        f"self.q$n[self.p$n % 3] = {_MEAN}\nself.p$n += 1\n$t = $a - self.q$n.mean(0)",
        "self.register_buffer('q$n', torch.zeros(3, 4))\nself.p$n = 0",
    ),
    Kind(
        "submodule_state",
        "$t = $L($a)",
        "$L = Remembering$n()",
        "class Remembering$n(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(4, 4)\n        self.last = 0.0\n\n    def forward(self, x):\n        y = self.l(x) + 0.1 * self.last\n        self.last = x.detach().mean()\n        return y\n",
    ),
    Kind(
        "submodule_buffer",
        "$t = $L($a)",
        "$L = Centering$n()",
        "class Centering$n(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.register_buffer('m', torch.zeros(4))\n\n    def forward(self, x):\n        if self.training:\n            self.m.lerp_(x.detach().flatten(0, -2).mean(0), 0.1)\n        return x - self.m\n",
    ),
    Kind(
        "submodule_buffer_data",
        "$t = $L($a)",
        "$L = Shifting$n()",
        "class Shifting$n(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(4, 4)\n        self.register_buffer('m', torch.zeros(4))\n\n    def forward(self, x):\n        if self.training:\n            self.m.data = self.m.data * 0.9 + x.detach().flatten(0, -2).mean(0) * 0.1\n        return self.l(x - self.m)\n",
    ),
    Kind(
        "flag_for_child",
        "$L.flag = len($a) % 3 == 0\n$t = $L($a)",
        "$L = Flagged$n()",
        "class Flagged$n(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(4, 4)\n        self.flag = False\n\n    def forward(self, x):\n        return self.l(x) * (2 if self.flag else 1)\n",
    ),
    Kind(
        "value_for_child",
        "$L.scale = $f.detach().abs().mean()\n$t = $L($a)",
        "$L = Scaling$n()",
        "class Scaling$n(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(4, 4)\n        self.scale = 1.0\n\n    def forward(self, x):\n        return self.l(x) * self.scale\n",
    ),
    Kind(
        "child_tells_parent",
        "$t = $L($a)\n$t = $t + $L.told * 0.1",
        "$L = Telling$n()",
        "class Telling$n(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(4, 4)\n\n    def forward(self, x):\n        self.told = x.mean(-1, keepdim=True)\n        return self.l(x)\n",
    ),
    Kind(
        "module_swapped",
        "if self.training and self.c$n == 3:\n    $L = nn.Identity()\nself.c$n += 1\n$t = $L($a)",
        "$L = nn.Linear(4, 4)\nself.c$n = 0",
        weight=0.5,
    ),
    Kind("requires_grad_in_forward", "$L.requires_grad_($L.weight.requires_grad)\n$t = $L($a)", "$L = nn.Linear(4, 4)"),
    Kind("attribute_tensor_now", "self.now$n = $f.detach().mean(-1, keepdim=True)\n$t = $a + self.now$n"),
    Kind("attribute_own_now", "self.now$n = $a.mean(-1, keepdim=True)\n$t = $a + self.now$n"),
    Kind(
        "weakref",
        "$t = $a * self.w$n()['v']",
        "self.keep$n = Kept$n({'v': 0.9})\nself.w$n = weakref.ref(self.keep$n)",
        "class Kept$n(dict):\n    pass\n",
    ),
    Kind("config_dict", "$t = $a * self.cfg$n['scale']", "self.cfg$n = {'scale': 0.9, 'name': 'x'}"),
    Kind("config_text", "$t = getattr(torch, self.act$n)($a)", "self.act$n = 'tanh'"),
    Kind("annealed", "self.cfg$n['t'] *= 0.99\n$t = $a * self.cfg$n['t']", "self.cfg$n = {'t': 1.0}"),
    Kind(
        "annealed_in_training",
        "if self.training:\n    self.t$n = max(self.t$n * 0.99, 0.1)\n$t = $a * self.t$n",
        "self.t$n = 1.0",
    ),
    Kind("every_other", "self.c$n = not self.c$n\n$t = $a * (2 if self.c$n else 1)", "self.c$n = False"),
    Kind("state_text", "self.s$n += 'x'\n$t = $a * (1 + 0.01 * len(self.s$n))", "self.s$n = ''"),
    Kind("state_set", "self.s$n.add(len($a))\n$t = $a * (1 + 0.01 * len(self.s$n))", "self.s$n = set()"),
    Kind("late_counter", "self.c$n += 1\n$t = $a * (2 if self.c$n > 9 else 1)", "self.c$n = 0"),
    Kind("late_global", "LATE$n[0] += 1\n$t = $a * (2 if LATE$n[0] > 9 else 1)", "LATE$n[0] = 0", "LATE$n = [0]\n"),
    Kind(
        "generator_global",
        "$t = $a * next(GROWING$n)",
        "",
        "def growing$n():\n    v = 1.0\n    while True:\n        v += 0.01\n        yield v\n\n\nGROWING$n = growing$n()\n",
        weight=0.5,
    ),
    Kind("cycle", "$t = $a * next(self.g$n)", "self.g$n = itertools.cycle([0.9, 1.0, 1.1])", weight=0.5),
    Kind(
        "mapped_iterator",
        "$t = $a * next(self.g$n)",
        "self.g$n = map(lambda i: 1 + i / 50, itertools.count())",
        weight=0.5,
    ),
    Kind("text_stream", "$t = $a * (1 + 0.01 * len(self.g$n.read(2)))", "self.g$n = io.StringIO('x' * 9)", weight=0.5),
    Kind(
        "own_iterator",
        "$t = $a * next(self.g$n)",
        "self.g$n = Ticking$n()",
        "class Ticking$n:\n    def __init__(self):\n        self.seen = []\n\n    def __iter__(self):\n        return self\n\n    def __next__(self):\n        self.seen.append(1)\n        return 1 + 0.01 * len(self.seen)\n",
        weight=0.5,
    ),
    Kind(
        "lru_counting",
        "$t = $a * numbered$n(len($a))",
        "numbered$n.cache_clear()\nNUMBER$n[0] = 0",
        "NUMBER$n = [0]\n\n\n@functools.lru_cache\ndef numbered$n(size):\n    NUMBER$n[0] += 1\n    return 1 + 0.05 * NUMBER$n[0]\n",
    ),
    Kind(
        "lru_drawing",
        "$t = $a * drawn$n($a.shape[-1])",
        "drawn$n.cache_clear()",
        "@functools.lru_cache\ndef drawn$n(size):\n    return 0.5 + torch.rand(size)\n",
    ),
    Kind(
        "context_variable",
        "STEP$n.set(STEP$n.get() + 1)\n$t = $a * (1 + 0.01 * STEP$n.get())",
        "STEP$n.set(0)",
        "STEP$n = contextvars.ContextVar('step', default=0)\n",
    ),
    Kind(
        "thread_local",
        "LOCAL$n.c += 1\n$t = $a * (1 + 0.01 * LOCAL$n.c)",
        "LOCAL$n.c = 0",
        "LOCAL$n = threading.local()\nLOCAL$n.c = 0\n",
    ),
    Kind(
        "environment",
        "os.environ['FROSTLINE_FUZZ_$n'] = str(int(os.environ['FROSTLINE_FUZZ_$n']) + 1)\n$t = $a * (1 + 0.01 * int(os.environ['FROSTLINE_FUZZ_$n']))",
        "os.environ['FROSTLINE_FUZZ_$n'] = '0'",
    ),
    Kind(
        "weak_reference",
        "self.w$n().c += 1\n$t = $a * (1 + 0.01 * self.w$n().c)",
        "self.k$n = [Held$n()]\nself.w$n = weakref.ref(self.k$n[0])",
        "class Held$n:\n    c = 0\n",
    ),
)
