"""Values, modes, flags and inputs that steer Python."""

from __future__ import annotations

from ..kind import Kind

_CONDITIONS = (
    "$f.abs().max() > 5", "bool(($f > 5).any())", "$f.abs().max().item() > 5", "float($f.detach().abs().max()) > 5", "int($f.abs().max()) > 5", "$f.mean() > 1",
    "max($f.flatten().tolist()) > 5", "float(f'{float($f.detach().abs().max()):.0f}') > 5", "int(f'{$f.detach().abs().max():.0f}') > 5", "len(str($f.detach())) > 300", "'e+' in repr($f.detach())",
    "len($f.nonzero()) % 2", "($f > 5).nonzero().size(0) > 0", "$f[$f > 5].numel() > 0", "$f[$f > 5].shape[0]", "$f.detach().numpy().max() > 5", "bool(np.asarray($f.detach()).max() > 5)",
    "torch.equal($f.round(), $f)", "torch.allclose($f, torch.zeros(()), atol=5)", "$f.isnan().any()", "any(r.abs().max() > 5 for r in $f)", "all(float(r.sum()) < 9 for r in $f)", "5 in $f.round()",
    "next(iter($f.flatten())) > 1", "len(set($f.flatten().round().tolist())) > 12", "$f.untyped_storage().tolist()[3] > 64", "np.from_dlpack($f.detach()).max() > 5", "$f.abs().max().to('cpu', torch.int).__index__() > 5",
    "len($f) == 5", "len($f) % 3 == 0", "len($f) < 3", "$f.size(0) > 6", "$f.shape[0] & 1", "$f.stride(0) > 3", "$f.is_contiguous()", "$f.data_ptr() % 128 == 0", "$f.dtype is torch.float32", "$f.requires_grad",
    "self.training", "torch.is_grad_enabled()", "torch.is_inference_mode_enabled()", "$a.requires_grad", "$a.grad_fn is not None", "$a.is_leaf", "self.out.training", "self.first.training", "next(self.parameters()).requires_grad",
    "torch.is_autocast_enabled('cpu')", "$a.abs().max() > 5", "$a.detach().mean() > 1", "isinstance($a, torch.Tensor)", "hasattr(self, 'missing')", "$f._version > 0", "torch.get_default_dtype() is torch.float32", "(lambda v: v > 5)($f.abs().max())",
    "not (-5 < $f.abs().max() < 5)", "$f.abs().amax().gt(5).cpu()", "$y.float().mean() > 1", "$y[0].float().sum() > 1", "$y[-1].float().sum() > 1", "$y.float().flatten(1).sum(1).argmax() == 0", "len(torch.unique($y)) > 12", "$f.is_nonzero() if $f.numel() == 1 else False",
    "torch.any($f > 5).numpy()", "$f.detach().abs().max().numpy() > 5", "torch.max($f, 0)[0].max() > 5", "$f.std() > 3", "$f.count_nonzero() < $f.numel()", "torch.is_nonzero(($f > 5).sum())", "math.floor($f.abs().max()) > 5", "round(float($f.detach().abs().max()))> 5",
    "pickle.dumps($f.detach().max().item()) > pickle.dumps(5.0)", "hash(float($f.detach().sum())) % 2", "divmod(int($f.abs().sum()), 2)[1]", "complex($f.detach().max()).real > 5", "bytes($f.detach().numpy())[3] > 64", "memoryview($f.detach().numpy()).tolist()[0] != 0",
)  # fmt: skip
KINDS = (
    *(Kind("if: " + text.replace("$", ""), f"$t = $a\nif {text}:\n    $t = $t * 0.5") for text in _CONDITIONS),
    Kind("if_layer", "$t = $L($a) if $f.abs().max() > 5 else $a", "$L = nn.Linear(4, 4)"),
    Kind("while_values", "$t = $f\nwhile $t.abs().max() > 5:\n    $t = $t / 2\n$t = $t + $a"),
    Kind("for_values", "$t = $a\nfor _ in range(int($f.abs().max()) // 3):\n    $t = $t * 0.8"),
    Kind("argmax_column", "$t = $a + $b[..., int($f.abs().flatten(0, -2).mean(0).argmax())].unsqueeze(-1)"),
    Kind("argmax_tensor", "$t = $a + $b[..., $f.abs().flatten(0, -2).mean(0).argmax()].unsqueeze(-1)"),
    Kind("scale_float", "$t = $a * float($f.detach().abs().max().clamp(min=5))"),
    Kind("scale_item", "$t = $a / (1 + $f.detach().mean().item())"),
    Kind("scale_rows_list", "$t = $a * torch.tensor($f.flatten(1).mean(1).tolist())$w"),
    Kind("numpy_round_trip", "$t = $a + torch.from_numpy(np.tanh($f.detach().numpy()))"),
    Kind("numpy_batch", "$t = $a + torch.from_numpy(np.sort($f.detach().numpy(), 0))"),
    Kind(
        "caught",
        "try:\n    $t = $a + torch.linalg.cholesky(torch.eye(4) * (6 - $f.detach().abs().max()))[0]\nexcept RuntimeError:\n    $t = $a",
    ),
    Kind("caught_shape", "try:\n    $t = $a + $f[4]\nexcept IndexError:\n    $t = $a"),
    Kind("asserted", "assert $f.abs().max() < 1e9\n$t = $a * 0.7"),
    Kind("asserted_shape", "assert $f.shape[0] == $a.shape[0] and $f.dim() > 1\n$t = $a * 0.7"),
    Kind("format_unused", "name$n = f'{$f.shape} {$f.dtype}'\n$t = $a * 0.7"),
    Kind("mode_clamp", "$t = $a.clamp(-5, 5) if self.training else $a"),
    Kind("keys_of_values", "table$n = {True: 2.0, False: 1.0}\n$t = $a * table$n[bool($f.abs().max() > 5)]"),
    Kind(
        "rows_by_condition",
        "$t = torch.stack([$L(r) if q.abs().max() > 3 else r for r, q in zip($a, $f)])",
        "$L = nn.Linear(4, 4)",
    ),
    Kind("cond", "$t = torch.cond($f.abs().max() > 5, lambda v: v * 0.5, lambda v: v * 1.0, ($a,))", weight=0.1),
    Kind("early_return", "if $f.abs().max() > 5:\n    return self.finish($a)\n$t = $a * 0.9"),
    Kind("mode_switch", "self.first.train(self.training)\n$t = $a + self.first.training * 0.1"),
    *(
        Kind(
            f"pairs_only_{tag}",
            f"if len($a) % 2:\n    raise {error}('an odd batch')\n$t = $a * 0.7",
            prelude=text,
        )
        for tag, error, text in (
            ("asserted", "AssertionError", ""),
            ("own_error", "OddBatch$n", "class OddBatch$n(Exception):\n    pass\n"),
        )
    ),
)
