"""Modules of torch, and what hangs on modules: hooks, ties, parametrizations, checkpoints."""

from __future__ import annotations

from ..kind import Kind

_CALL = "$t = $L($a)"
_HOOKED = "$L = nn.Linear(4, 4)\n"

KINDS = (
    Kind("linear", _CALL, "$L = nn.Linear(4, 4)", weight=6),
    Kind("linear_no_bias", _CALL, "$L = nn.Linear(4, 4, bias=False)"),
    Kind("bilinear", "$t = $L($a, $b)", "$L = nn.Bilinear(4, 4, 4)"),
    Kind("layer_norm", _CALL, "$L = nn.LayerNorm(4)", weight=2),
    Kind("batch_norm", _CALL, "$L = nn.BatchNorm1d(4)", layouts="r", weight=3),
    Kind("batch_norm_tokens", "$t = $L($a.transpose(1, 2)).transpose(1, 2)", "$L = nn.BatchNorm1d(4)", layouts="t"),
    Kind("batch_norm_no_weights", _CALL, "$L = nn.BatchNorm1d(4, affine=False)", layouts="r"),
    Kind("batch_norm_cumulative", _CALL, "$L = nn.BatchNorm1d(4, momentum=None)", layouts="r"),
    Kind("batch_norm_no_statistics", _CALL, "$L = nn.BatchNorm1d(4, track_running_stats=False)", layouts="r"),
    Kind("group_norm", _CALL, "$L = nn.GroupNorm(2, 4)", layouts="r"),
    Kind(
        "instance_norm",
        "$t = $L($a.transpose(1, 2)).transpose(1, 2)",
        "$L = nn.InstanceNorm1d(4, affine=True, track_running_stats=True)",
        layouts="t",
    ),
    Kind("rms_norm", _CALL, "$L = nn.RMSNorm(4)"),
    Kind(
        "conv_tokens", "$t = $L($a.transpose(1, 2)).transpose(1, 2)", "$L = nn.Conv1d(4, 4, 3, padding=1)", layouts="t"
    ),
    Kind("conv_rows", "$t = $L($a.unsqueeze(1)).mean(1)", "$L = nn.Conv1d(1, 2, 3, padding=1)", layouts="r"),
    Kind("conv_2d", "$t = $L($a.view(-1, 1, 2, 2)).flatten(1)", "$L = nn.Conv2d(1, 1, 3, padding=1)", layouts="r"),
    Kind(
        "attention",
        "$t = $L($a, $b, $b)[0]",
        "$L = nn.MultiheadAttention(4, 2, batch_first=True)",
        layouts="t",
        weight=2,
    ),
    Kind(
        "attention_dropout",
        "$t = $L($a, $a, $a, need_weights=False)[0]",
        "$L = nn.MultiheadAttention(4, 2, dropout=0.3, batch_first=True)",
        layouts="t",
    ),
    Kind("attention_over_batch", "$t = $L($a, $a, $a)[0]", "$L = nn.MultiheadAttention(4, 2)", layouts="t"),
    Kind("scaled_dot_product", "$t = F.scaled_dot_product_attention($a, $b, $b)", layouts="t"),
    Kind("encoder_layer", _CALL, "$L = nn.TransformerEncoderLayer(4, 2, 8, 0.1, batch_first=True)", layouts="t"),
    Kind(
        "encoder_padding",
        "$t = $L($a, src_key_padding_mask=($y.reshape(len($y), -1).sum(1) > 20)[:, None] & torch.tensor([False, False, True]))",
        "$L = nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True)",
        layouts="t",
    ),
    Kind("lstm", "$t = $L($a)[0]", "$L = nn.LSTM(4, 4, batch_first=True)", layouts="t"),
    Kind("gru_state", "$t = $b + $L($a)[1][-1].unsqueeze(1)", "$L = nn.GRU(4, 4, batch_first=True)", layouts="t"),
    Kind(
        "rnn_packed",
        "p$n = nn.utils.rnn.pack_padded_sequence($a, ($a.sum((1, 2)) > 0).long().cpu() + 2, batch_first=True, enforce_sorted=False)\n$t = nn.utils.rnn.pad_packed_sequence($L(p$n)[0], batch_first=True, total_length=3)[0]",
        "$L = nn.RNN(4, 4, batch_first=True)",
        layouts="t",
    ),
    Kind("gru_cell", "$t = $L($a, $b)", "$L = nn.GRUCell(4, 4)", layouts="r"),
    Kind("lstm_cell", "$t, _ = $L($a)", "$L = nn.LSTMCell(4, 4)", layouts="r"),
    Kind("sequential", _CALL, "$L = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))", weight=2),
    Kind("sequential_dropout", _CALL, "$L = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.3), nn.ReLU())", weight=2),
    Kind("embedding_of_values", "$t = $a + $L($b.abs().mul(3).long().clamp(0, 8)[..., 0])", "$L = nn.Embedding(9, 4)"),
    Kind(
        "embedding_max_norm",
        "$t = $a + $L($b.abs().long().clamp(0, 8)[..., 0])",
        "$L = nn.Embedding(9, 4, max_norm=1.0)",
    ),
    Kind(
        "embedding_bag", "$t = $a + $L($b.detach().abs().long().clamp(0, 8))", "$L = nn.EmbeddingBag(9, 4)", layouts="r"
    ),
    Kind("positions", "$t = $a + $L(torch.arange($a.shape[-2] if $a.dim() > 2 else 1))", "$L = nn.Embedding(3, 4)"),
    Kind("dropout", _CALL, "$L = nn.Dropout(0.3)", weight=2),
    Kind("alpha_dropout", _CALL, "$L = nn.AlphaDropout(0.2)"),
    Kind("rrelu", _CALL, "$L = nn.RReLU()"),
    Kind("prelu", _CALL, "$L = nn.PReLU()"),
    Kind("identity", _CALL, "$L = nn.Identity()"),
    Kind("parameter", "$t = $a * $L", "$L = nn.Parameter(torch.ones(4) * 1.1, requires_grad=$G)", weight=2),
    Kind(
        "parameter_list",
        "$t = $a\nfor p$n in $L:\n    $t = $t + p$n",
        "$L = nn.ParameterList([nn.Parameter(torch.ones(4) * 0.1, requires_grad=$G) for _ in range(2)])",
    ),
    Kind(
        "module_list",
        "$t = $a\nfor m$n in $L:\n    $t = m$n($t).tanh()",
        "$L = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])",
    ),
    Kind(
        "module_dict",
        "$t = $L['one']($a) + $L['two']($b)",
        "$L = nn.ModuleDict({'one': nn.Linear(4, 4), 'two': nn.Linear(4, 4)})",
    ),
    Kind("called_twice", "$t = $L($L($a).tanh())", "$L = nn.Linear(4, 4)"),
    Kind("tied_weight", "$t = F.linear($a, self.first.weight)"),
    Kind("tied_transposed", "$t = $a @ self.out.weight.T @ self.out.weight"),
    Kind("unused_layer", "$t = $a + 0.1", "$L = nn.Linear(4, 4)"),
    Kind("weight_norm", _CALL, "$L = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))"),
    Kind("spectral_norm", _CALL, "$L = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))"),
    Kind("old_spectral_norm", _CALL, "$L = nn.utils.spectral_norm(nn.Linear(4, 4))"),
    Kind("orthogonal", _CALL, "$L = nn.utils.parametrizations.orthogonal(nn.Linear(4, 4))"),
    Kind(
        "checkpoint", "$t = checkpoint($L, $a, use_reentrant=False)", "$L = nn.Sequential(nn.Linear(4, 4), nn.Tanh())"
    ),
    Kind(
        "checkpoint_dropout",
        "$t = checkpoint($L, $a, use_reentrant=False)",
        "$L = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.3))",
    ),
    Kind("forward_hook", _CALL, _HOOKED + "$L.register_forward_hook(lambda m, i, o: o.clamp(-2, 2))"),
    Kind("forward_pre_hook", _CALL, _HOOKED + "$L.register_forward_pre_hook(lambda m, i: (i[0].tanh(),))"),
    Kind(
        "hook_of_state",
        _CALL,
        _HOOKED + "self.seen$n = []\n$L.register_forward_hook(lambda m, i, o: self.seen$n.append(o.detach().mean()))",
    ),
    Kind(
        "hook_of_batch", _CALL, _HOOKED + "$L.register_forward_hook(lambda m, i, o: o - o.mean(0) if len(o) > 4 else o)"
    ),
    Kind(
        "backward_hook",
        _CALL,
        _HOOKED + "$L.register_full_backward_hook(lambda m, i, o: (i[0] * 0.5 if i[0] is not None else None,))",
    ),
    Kind(
        "tensor_hook",
        "$t = $L($a)\nif $t.requires_grad:\n    $t.register_hook(lambda g: g * 0.5)",
        "$L = nn.Linear(4, 4)",
    ),
    Kind(
        "weight_hook",
        _CALL,
        _HOOKED + "if $L.weight.requires_grad:\n    $L.weight.register_hook(lambda g: g.clamp(-0.01, 0.01))",
    ),
    Kind(
        "train_override",
        _CALL,
        "$L = Fixed$n()",
        "class Fixed$n(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.bn = nn.BatchNorm1d(4)\n\n    def forward(self, x):\n        return self.bn(x.reshape(-1, 4)).view_as(x)\n\n    def train(self, mode=True):\n        super().train(mode)\n        self.bn.eval()\n        return self\n",
    ),
    Kind(
        "module_without_weights",
        _CALL,
        "$L = Plain$n()",
        "class Plain$n(nn.Module):\n    def forward(self, x):\n        return x.tanh() * (2 if self.training else 2)\n",
    ),
    Kind(
        "mode_of_module",
        _CALL,
        "$L = Moded$n()",
        "class Moded$n(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(4, 4)\n\n    def forward(self, x):\n        return self.l(x) if self.training else self.l(x).clamp(-1, 1)\n",
    ),
    Kind(
        "functional_call",
        "$t = torch.func.functional_call($L, {'weight': $L.weight * 0.5}, ($a,))",
        "$L = nn.Linear(4, 4)",
    ),
    Kind(
        "expert_by_sample",
        "w$n = $L[0]($a).softmax(-1)\n$t = w$n[..., :1] * $L[1]($a) + w$n[..., 1:2] * $L[2]($a)",
        "$L = nn.ModuleList([nn.Linear(4, 2), nn.Linear(4, 4), nn.Linear(4, 4)])",
    ),
    Kind(
        "expert_by_mask",
        "k$n = $f[..., 0] > 0\n$t = torch.zeros_like($a)\n$t[k$n] = $L[0]($a[k$n])\n$t[~k$n] = $L[1]($a[~k$n])",
        "$L = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])",
    ),
    *(
        Kind(
            f"neighbours_{layout}",
            _CALL,
            "$L = Neighbours$n()",
            "class Neighbours$n(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            f"        self.register_buffer('near', (torch.rand(4, 4) > 0.4).float().to_sparse{layout}())\n"
            "        self.l = nn.Linear(4, 4)\n\n    def forward(self, x):\n"
            "        return torch.sparse.mm(self.near, self.l(x).reshape(-1, 4).t()).t().reshape(x.shape)\n",
            weight=0.5,
        )
        for layout in ("", "_csr")
    ),
    Kind(
        "scripted",
        _CALL,
        "$L = torch.jit.script(Scripted$n())",
        "class Scripted$n(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(4, 4)\n\n    def forward(self, x):\n        return torch.tanh(self.l(x))\n",
        weight=0.3,
    ),
)
