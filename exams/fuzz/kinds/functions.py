"""Functions of torch that follow each sample alone, and changes of dtype and layout."""

from __future__ import annotations

from ..kind import Kind

_UNARY = (
    "F.relu($a)", "F.gelu($a)", "torch.tanh($a)", "$a.sin()", "$a.softmax(-1)", "$a.log_softmax(-1)", "$a.clamp(-2, 2)",
    "$a.abs()", "$a.clamp(max=2).exp()", "$a.abs().add(1).sqrt()", "$a.sign() * 0.1 + $a", "$a.round() + $a * 0.1",
    "$a.cumsum(-1) * 0.3", "$a.flip(-1)", "$a.roll(1, -1)", "$a.sort(-1).values", "$a.topk(4, -1)[0]",
    "$a.gather(-1, $a.argsort(-1))", "torch.take_along_dim($a, $a.argsort(-1, descending=True), -1)",
    "$a.index_select(-1, torch.tensor([2, 0, 1, 3]))", "$a[..., [3, 2, 1, 0]]", "torch.cat([$a[..., ::2], $a[..., 1::2]], -1)",
    "torch.cat($a.chunk(2, -1)[::-1], -1)", "torch.stack($a.unbind(-1), -1)", "torch.cat($a.split([1, 3], -1), -1)",
    "$a.reshape(-1, 2).reshape($a.shape)", "$a.transpose(0, -1).transpose(0, -1)", "$a.unsqueeze(1).squeeze(1)",
    "$a.unsqueeze(-1).expand(*$a.shape, 2).mean(-1)", "$a - $a.mean(-1, keepdim=True)", "$a / ($a.std(-1, keepdim=True) + 1)",
    "F.normalize($a, dim=-1)", "$a + F.one_hot($a.argmax(-1), 4)", "F.layer_norm($a, (4,))", "F.pad($a, (1, 1))[..., 1:-1]",
    "torch.fft.irfft(torch.fft.rfft($a), 4)", "torch.complex($a, $a * 0.5).abs()", "torch.view_as_real(torch.polar($a.abs(), $a)).sum(-1)",
    "$a.double().tanh().float()", "$a.bfloat16().float()", "$a.half().float().tanh()", "$a * ($a > 0)", "$a * ($a.detach() > 0.3).float()",
    "torch.where($a > 0, $a, $a * 0.1)", "$a.masked_fill($a > 2, 0.0)", "F.silu($a, inplace=False)", "$a.logsumexp(-1, keepdim=True) + $a",
    "F.hardtanh($a)", "torch.nan_to_num($a)", "$a.square().clamp(max=9)", "$a.tril() if $a.dim() > 2 else $a", "$a.diff(dim=-1, prepend=$a[..., :1])",
    "torch.vmap(lambda r: r * r.sigmoid())($a)", "$a.contiguous().view(-1, 4).view($a.shape)", "$a[:, None][:, 0]", "$a.detach() * 0.5 + $a",
    "torch.einsum('...i,...i->...i', $a, $a.sigmoid())", "$a.amax(-1, keepdim=True) - $a", "$a.kthvalue(2, -1, keepdim=True)[0] + $a",
    "$a.view($a.size(0), -1).view(-1, $S)", "$a.reshape(len($a), -1).reshape(len($a), $S)", "$a.to(torch.float32)", "$a.type_as($b)",
    "F.softplus($a, 2)", "F.glu(torch.cat([$a, $a], -1))", "F.leaky_relu($a, 0.2)", "$a.index_fill(-1, torch.tensor([1]), 0.5)",
    "torch.bucketize($a, torch.tensor([-1.0, 0.0, 1.0])).float() + $a", "$a.quantile(0.5, -1, keepdim=True) + $a", "$a.unflatten(-1, (2, 2)).flatten(-2)",
)  # fmt: skip
_BINARY = (
    "$a + $b", "$a * $b.sigmoid()", "torch.maximum($a, $b)", "torch.lerp($a, $b, 0.3)", "torch.addcmul($a, $b, $b.tanh(), value=0.1)",
    "torch.where($b > 0, $a, $b)", "F.cosine_similarity($a, $b, -1).unsqueeze(-1) + $a", "torch.stack([$a, $b]).mean(0)",
    "torch.cat([$a, $b], -1)[..., 2:6]", "torch.stack([$a, $b], 1).amax(1)", "$a.scatter(-1, $b.detach().argsort(-1), $a)",
    "$a.scatter_add(-1, $b.argmax(-1, keepdim=True), $b[..., :1])", "torch.sum(torch.stack([$a, $b, $a]), dim=0)",
    "torch.einsum('...i,...j->...j', $a, $b) * 0.2", "torch.broadcast_tensors($a, $b)[0] + $b", "torch.hypot($a, $b + 1)",
    "torch.cat([$a, $b], 0)[:len($a)] + $b", "torch.cat([$a, $b], 0).chunk(2, 0)[1]", "$a.gather(-1, $b.abs().long().clamp(0, 3))",
)  # fmt: skip
_TOKENS = (
    "$a - $a.mean(1, keepdim=True)", "$a.cumsum(1) * 0.3", "$a.transpose(1, 2).softmax(-1).transpose(1, 2)", "$a @ $a.transpose(1, 2) @ $a * 0.05",
    "torch.bmm($a @ $b.mT, $b) * 0.05", "$a.flip(1)", "$a[:, -1:].expand(-1, 3, -1) + $a", "$a[:, [0, 0, 2]]", "$a.permute(2, 0, 1).permute(1, 2, 0)",
    "$a.amax(1, keepdim=True) + $b", "$a.repeat(1, 2, 1)[:, 1:4]", "$a.unfold(1, 2, 1).mean(-1).repeat(1, 2, 1)[:, :3]",
    "F.interpolate($a.transpose(1, 2), size=3).transpose(1, 2)", "$a.masked_fill(torch.ones(3, 3).triu(1).bool()[None, :, :1], 0.0)",
    "torch.gather($a, 1, $b.detach().argsort(1))", "$a.repeat_interleave(2, 1)[:, ::2]", "$a * torch.linspace(0, 1, $a.size(1))[:, None]",
    "$a.flatten(0, 1).view(-1, 3, 4)", "$a.narrow(1, 0, 2).mean(1, keepdim=True) + $b", "torch.cdist($a, $b).mean(-1, keepdim=True) + $a",
)  # fmt: skip


def _tag(text: str) -> str:
    return "f: " + text.replace("$", "")


_REGIONS = (
    Kind("no_grad", "with torch.no_grad():\n    $t = $a * 0.5\n$t = $t + $a"),
    Kind("all_no_grad", "with torch.no_grad():\n    $t = $f.tanh()\n$t = $t + $a"),
    Kind("set_grad_enabled", "with torch.set_grad_enabled(self.training):\n    $t = $a.tanh()"),
    Kind(
        "autocast",
        "with torch.autocast('cpu', dtype=torch.bfloat16):\n    $t = $L($a)\n$t = $t.float()",
        "$L = nn.Linear(4, 4)",
    ),
    Kind("autocast_off", "with torch.autocast('cpu', enabled=False):\n    $t = $L($a)", "$L = nn.Linear(4, 4)"),
    Kind(
        "inference_mode",
        "with torch.inference_mode():\n    i$n = $f.detach().abs().mean(-1, keepdim=True)\n$t = $a + i$n.clone()",
    ),
    Kind(
        "autograd_function",
        "$t = Scaled$n.apply($a)",
        "",
        "class Scaled$n(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x):\n        return x * 2\n\n    @staticmethod\n    def backward(ctx, g):\n        return g * 0.3\n",
    ),
    Kind("straight_through", "$t = $a + ($a.round() - $a).detach()"),
    Kind(
        "gradient_inside",
        "g$n = $f.detach().requires_grad_()\n$t = $a + torch.autograd.grad(g$n.square().sum(), g$n)[0] * 0.1",
    ),
    Kind("module_buffer", "$t = $a + $L", "self.register_buffer('$l', torch.arange(4.0))"),
    Kind("plain_tensor", "$t = $a + $L", "$L = torch.arange(4.0)"),
    Kind("constant", "$t = $a + torch.tensor([1.0, 2.0, 3.0, 4.0])"),
    Kind("new_zeros", "$t = $a + $a.new_ones(len($a), $S)"),
    Kind("like", "$t = $a + torch.full_like($a, 0.5)"),
    Kind("finfo", "$t = $a.masked_fill($f > 3, torch.finfo($a.dtype).min / 1e38)"),
    Kind("sparse", "$t = torch.sparse.mm($a.reshape(-1, 4).detach().to_sparse(), torch.eye(4)).view_as($a) + $a"),
    Kind(
        "jit_function",
        "$t = scripted$n($a)",
        "",
        "@torch.jit.script\ndef scripted$n(x: torch.Tensor):\n    return x.tanh() + 1\n",
        weight=0.2,
    ),
)
KINDS = (
    *(Kind(_tag(text), f"$t = {text}") for text in _UNARY),
    *(Kind(_tag(text), f"$t = {text}") for text in _BINARY),
    *(Kind(_tag(text), f"$t = {text}", layouts="t") for text in _TOKENS),
    *_REGIONS,
)
