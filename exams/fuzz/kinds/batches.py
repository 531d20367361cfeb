"""What depends on other samples of the batch, on the place in it, or on its size."""

from __future__ import annotations

from ..kind import Kind

_TEXTS = (
    "$a - $a.mean(0)", "$a / $a.abs().max().clamp(min=5)", "$a / $a.abs().max()", "$a.softmax(0)", "$a.sort(0).values", "$a.cumsum(0) * 0.1",
    "$a.flip(0)", "$a.roll(1, 0)", "$a + $a[0]", "$a + $a[-1]", "$a + $b[:1]", "$a * (torch.arange(len($a)) % 2)$w", "$a * (1 + ($f > 5).sum() * 0.1)",
    "$a * (1 + ($f.flatten(1).amax(1) > 3).float().mean())", "F.batch_norm($a.reshape(-1, 4), None, None, training=True).view_as($a)",
    "$a + $f.quantile(0.9)", "$a[torch.arange(len($a)).flip(0)]", "$a + $f.flatten(1).sum(1).argsort().float()$w", "$a + $f.flatten(1).amax(1).max()",
    "$a + (($f.flatten(1) @ $f.flatten(1).T) * 0.01).softmax(-1).sum(0)$w", "$a * (torch.cdist($f.flatten(1), $f.flatten(1)) < 1e-6).sum(1)$w",
    "$a - $f.amin(0).clamp(max=-5)", "$a * (len($a) % 2)", "$a * 2 if len($a) == 5 else $a", "$a / len($a)", "$a * math.sqrt(len($a))", "$a * min(8, len($a))",
    "$a * max(len($a), 3)", "$a / $a.shape[0] ** 0.5", "$a * (1.0 / $a.size(0))", "$a + torch.arange(len($a))$w", "$a + torch.linspace(0, 1, len($a))$w",
    "$a * (2 if $a.numel() > 30 else 1)", "$a * math.log(len($a) + 1)", "$a * (len($a) // 2)", "$a + torch.eye(len($a)).sum(1)$w", "$a - $b.detach().mean()",
    "torch.cat([$a[1:], $a[:1]])", "torch.cat([$a[: len($a) // 2] * 2, $a[len($a) // 2 :]])", "torch.stack([r * 2 for r in $a])", "torch.stack([r.tanh() for r in $a.unbind(0)])",
    "torch.stack([r + q for r, q in zip($a, $b)])", "torch.stack([r * (i % 2) for i, r in enumerate($a)])", "torch.cat([c.tanh() for c in $a.chunk(2)])",
    "torch.cat([c - c.mean(0) for c in $a.split(2)])", "torch.cat([c * 0.5 for c in $a.split(1)])", "torch.cat([c for c in reversed($a.split(1))])",
    "$a + F.one_hot(torch.tensor(len($a) % 4), 4)", "$a.view(-1, $S)[torch.randperm(len($a)).sort().values]", "torch.cat([$a, $a])[::2]", "$a + torch.tensor([float(len($a))])",
    "$a.repeat(2, *[1] * ($a.dim() - 1))[len($a):]", "torch.stack([$a[i] for i in range(len($a))])", "torch.stack(sorted($a, key=lambda r: float(r.sum())))",
    "torch.stack([max($a, key=lambda r: float(r.sum()))] * len($a)) + $a", "$a * sum(1 for r in $f if r.abs().max() > 3)", "torch.stack([r * (2 if r.abs().max() > 3 else 1) for r in $a])",
    "torch.stack([r * (2 if q.abs().max() > 3 else 1) for r, q in zip($a, $f)])", "$a + $L(torch.stack([r for r in $a]))",
)  # fmt: skip
KINDS = (
    *(
        Kind("b: " + text.replace("$", ""), f"$t = {text}", "$L = nn.Linear(4, 4)" if "$L" in text else "")
        for text in _TEXTS
    ),
    Kind("rows_through_layer", "$t = torch.stack([$L(r) for r in $a])", "$L = nn.Linear(4, 4)", weight=2),
    Kind("rows_of_frozen", "$t = torch.stack([$L(r) for r in $f]) + $a", "$L = nn.Linear(4, 4)", weight=2),
    Kind("chunks_through_layer", "$t = torch.cat([$L(c) for c in $a.chunk(2)])", "$L = nn.Linear(4, 4)"),
    Kind("microbatches", "$t = torch.cat([$L(c) for c in $a.split(2)])", "$L = nn.Linear(4, 4)"),
    Kind("pairs", "$t = $a.clone()\nfor i in range(0, len($a) - 1, 2):\n    $t[i] = $a[i + 1]\n"),
    Kind(
        "running_over_rows",
        "$t = []\nh$n = torch.zeros($S)\nfor r in $a:\n    h$n = 0.5 * h$n + r\n    $t.append(h$n)\n$t = torch.stack($t)",
    ),
)
