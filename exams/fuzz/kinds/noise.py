"""Chance: from torch, numpy and Python, in either mode, and where it steers."""

from __future__ import annotations

from ..kind import Kind

_TEXTS = (
    "F.dropout($a, 0.3, training=self.training)", "F.dropout($a, 0.3)", "$a + 0.1 * torch.randn_like($a)", "$a + 0.1 * torch.randn($a.shape)", "$a * torch.rand(len($a))$w",
    "$a + (0.1 * torch.randn_like($a) if self.training else 0)", "$a * torch.bernoulli(torch.full_like($a, 0.8))", "$a + torch.empty_like($a).normal_(0, 0.1)", "$a * random.random()",
    "$a + float(np.random.rand())", "$a + torch.from_numpy(np.random.randn(4).astype('float32')) * 0.1", "F.gumbel_softmax($a, dim=-1)", "F.dropout1d($a, 0.3, self.training) if $a.dim() > 2 else F.dropout($a, 0.2, self.training)",
    "$a[torch.randperm(len($a))]", "$a + torch.randint(0, 2, (len($a),))$w", "$a * (torch.rand(len($a)) > 0.2)$w / 0.8 if self.training else $a", "F.rrelu($a, training=self.training)",
    "$a + 0 * torch.randn_like($a)", "F.feature_alpha_dropout($a, 0.2, self.training) if $a.dim() > 2 else $a", "torch.lerp($a, $a[torch.randperm(len($a))], 0.2) if self.training else $a",
    "$a + torch.multinomial(torch.ones(4), 1)", "$a + torch.normal(0.0, 0.1, $a.shape)", "$a + torch.distributions.Normal(0.0, 0.1).sample($a.shape)", "$a + torch.randn(4, generator=torch.Generator().manual_seed(3))",
    "torch.where(torch.rand_like($a) < 0.1, torch.zeros_like($a), $a)", "$a * random.choice([0.9, 1.1]) if self.training else $a", "F.scaled_dot_product_attention($a, $a, $a, dropout_p=0.2 if self.training else 0.0) if $a.dim() > 2 else $a",
)  # fmt: skip
KINDS = (
    *(Kind("n: " + text.replace("$", ""), f"$t = {text}") for text in _TEXTS),
    Kind(
        "layer_drop_torch",
        "$t = $a\nif not self.training or torch.rand(()) > 0.3:\n    $t = $L($a)",
        "$L = nn.Linear(4, 4)",
    ),
    Kind(
        "layer_drop_python",
        "$t = $a\nif not self.training or random.random() > 0.3:\n    $t = $L($a)",
        "$L = nn.Linear(4, 4)",
    ),
    Kind(
        "layer_drop_numpy",
        "$t = $a\nif not self.training or np.random.rand() > 0.3:\n    $t = $L($a)",
        "$L = nn.Linear(4, 4)",
    ),
    Kind("layer_drop_item", "$t = $L($a) if torch.rand(1).item() > 0.3 else $a", "$L = nn.Linear(4, 4)"),
    Kind(
        "own_generator",
        "$t = $a + 0.1 * torch.randn($a.shape, generator=self.g$n)",
        "self.g$n = torch.Generator().manual_seed(5)",
    ),
    Kind("own_python_random", "$t = $a * self.r$n.uniform(0.9, 1.1)", "self.r$n = random.Random(5)"),
    Kind("own_numpy_random", "$t = $a * float(self.r$n.uniform(0.9, 1.1))", "self.r$n = np.random.default_rng(5)"),
    Kind("seeded_inside", "torch.manual_seed(3)\n$t = $a + torch.randn(4)"),
    Kind(
        "forked_inside",
        "with torch.random.fork_rng(devices=[]):\n    torch.manual_seed(3)\n    $t = $a + torch.randn(4)",
    ),
    Kind(
        "drop_path",
        "$t = $L($a)",
        "$L = DropPath$n()",
        "class DropPath$n(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(4, 4)\n\n    def forward(self, x):\n        if not self.training:\n            return x + self.l(x)\n        keep = x.new_empty((len(x),) + (1,) * (x.dim() - 1)).bernoulli_(0.8)\n        return x + self.l(x) * keep / 0.8\n",
    ),
    Kind("noise_buffer", "self.b$n.normal_()\n$t = $a + 0.1 * self.b$n", "self.register_buffer('b$n', torch.zeros(4))"),
    Kind("noise_rows_loop", "$t = torch.stack([r + 0.1 * torch.randn($S) for r in $a])"),
    Kind("noise_by_values", "$t = $a + 0.1 * torch.randn_like($a) if $f.abs().max() > 5 else $a"),
)
