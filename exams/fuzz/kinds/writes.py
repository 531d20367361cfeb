"""Writes in place, into views, through `.data` and `out=`; sizes that follow values."""

from __future__ import annotations

from ..kind import Kind

KINDS = (
    Kind("add_in_place", "$t = $a.clone()\n$t += $b"),
    Kind("mul_in_place", "$t = $a * 1\n$t.mul_(0.5)"),
    Kind("write_after_read", "$t = $a.clone()\nr$n = $t + 1\n$t.mul_(2)\n$t = $t + r$n"),
    Kind("write_frozen_later", "$f.mul_(0.5)\n$t = $a + $f", places="t"),
    Kind("relu_in_place", "$t = F.relu($a.clone(), inplace=True)"),
    Kind("out", "o$n = torch.empty_like($f)\ntorch.add($f.detach(), 1, out=o$n)\n$t = $a + o$n"),
    Kind("set_column", "$t = $a.clone()\n$t[..., 0] = 0"),
    Kind("set_column_of", "$t = $a.clone()\n$t[..., 1] = $b[..., 2]"),
    Kind("set_masked", "$t = $a.clone()\n$t[$t > 1] = 0.5"),
    Kind("set_first_row", "$t = $a.clone()\n$t[0] = 0"),
    Kind("set_rows", "$t = $a.clone()\n$t[::2] = $t[::2] * 0.5"),
    Kind("set_rows_in_loop", "$t = torch.zeros_like($a)\nfor i in range(len($a)):\n    $t[i] = $b[i]"),
    Kind(
        "layer_rows_in_loop",
        "$t = torch.zeros(len($a), $S)\nfor i in range(len($a)):\n    $t[i] = $L($a[i])",
        "$L = nn.Linear(4, 4)",
    ),
    Kind("masked_rows", "k$n = $f.flatten(1).amax(1) > 2\n$t = $a.clone()\n$t[k$n] = $t[k$n] * 0.5"),
    Kind("index_put", "$t = $a.index_put((torch.arange(len($a)),), $b * 0.5)"),
    Kind("masked_fill_in_place", "$t = $a.clone().masked_fill_($b.detach() > 2, 1.0)"),
    Kind("copy_in_place", "$t = torch.empty_like($a)\n$t.copy_($a)"),
    Kind("data_write", "$t = $a.clone()\n$t.data.mul_(0.5)"),
    Kind("data_read", "$t = $a + $b.data"),
    Kind("data_assign", "$t = $a * 1\n$t.data = $t.data * 0.5"),
    Kind("view_write", "$t = $a.clone()\n$t.view(-1)[0] = 0"),
    Kind("view_write_each", "$t = $a.clone()\n$t.view(len($t), -1)[:, 0] = 0"),
    Kind("index_add", "$t = torch.zeros_like($a).index_add_(0, torch.arange(len($a)), $a)"),
    Kind("index_add_runs", "$t = torch.zeros(len($a), $S).index_add(0, torch.arange(len($a)) // 2, $a)"),
    Kind("scatter_rows", "k$n = ($f.flatten(1).amax(1) > 2).nonzero()[:, 0]\n$t = $a.index_add(0, k$n, $b[k$n])"),
    Kind("detached_write", "$t = $a.clone()\n$t.detach().mul_(0.5)"),
    Kind("numpy_write", "$t = $f.detach().clone()\n$t.numpy()[:] *= 0.5\n$t = $t + $a"),
    Kind("input_write", "$y.mul_(0.9)\n$t = $a + $y.flatten(1).float().mean(1)$w"),
    Kind("weight_write", "with torch.no_grad():\n    $L.weight.mul_(0.9)\n$t = $L($a)", "$L = nn.Linear(4, 4)"),
    Kind("weight_clip", "if self.training:\n    $L.weight.data.clamp_(-0.2, 0.2)\n$t = $L($a)", "$L = nn.Linear(4, 4)"),
    Kind("grad_flag", "$t = $a.detach().clone().requires_grad_()\n$t = $t + $a"),
    Kind("swap_values", "$t = $a.clone()\n$t[..., 0], $t[..., 1] = $a[..., 1].clone(), $a[..., 0].clone()"),
    Kind("reduce_in_list", "l$n = [$a, $b]\nl$n[0] = l$n[0] * 2\n$t = sum(l$n)"),
    Kind("nonzero_size", "$t = $a * (1 + len(($f > 3).nonzero()) * 0.1)"),
    Kind("select_size", "$t = $a / (1 + $f[$f > 3].numel())"),
    Kind("masked_select_mean", "$t = $a + torch.masked_select($f, $f < 3).mean()"),
    Kind("masked_select_shape", "$t = $a * (1 + torch.masked_select($f, $f > 3).shape[0])"),
    Kind("unique_size", "$t = $a * $f.round().unique().numel() * 0.05"),
    Kind("unique_loop", "$t = $a\nfor c in ($f.abs() > 3).flatten().unique():\n    $t = $t + 1"),
    Kind(
        "unique_inverse",
        "u$n, i$n = $f[..., 0].round().unique(return_inverse=True)\n$t = $a + i$n.float().unsqueeze(-1)",
    ),
    Kind(
        "unique_rows",
        "u$n, i$n = $f.reshape(len($f), -1).round().unique(dim=0, return_inverse=True)\n$t = $a + u$n[i$n][:, :1].sign()$w1",
    ),
    Kind("bincount_size", "$t = $a * (torch.bincount($f.detach().abs().long().clamp(0, 20).flatten()).numel() * 0.1)"),
    Kind(
        "repeat_interleave",
        "r$n = $f.repeat_interleave(1 + ($f.flatten(1).amax(1) > 3).long(), 0)\n$t = $a + r$n.mean(0)",
    ),
    Kind(
        "split_by_values",
        "$t = $a\nn$n = int(($f.flatten(1).amax(1) > 3).sum())\np$n = $a.split([n$n, len($a) - n$n])\n$t = torch.cat([p$n[0] * 2, p$n[1]])",
    ),
    Kind(
        "compact_rows",
        "k$n = $f.flatten(1).amax(1) <= 3\nr$n = $L($a[k$n])\n$t = $a.clone()\n$t[k$n] = r$n",
        "$L = nn.Linear(4, 4)",
    ),
    Kind("where_index", "i$n = torch.where($f.flatten(1).amax(1) > 2)[0]\n$t = $a.clone()\n$t[i$n] = $b[i$n] * 2"),
    Kind(
        "topk_by_count",
        "k$n = int(($f > 0).flatten(1).sum(1).max().clamp(1, 4))\n$t = $a + $b.topk(k$n, -1)[0].mean(-1, keepdim=True)",
    ),
    Kind(
        "trim_tokens",
        "n$n = int(($f.abs().sum(-1) > 2).sum(1).max().clamp(min=1))\n$t = $a + $b[:, :n$n].mean(1, keepdim=True)",
        layouts="t",
    ),
    Kind(
        "masked_tokens",
        "k$n = ($f.abs().sum(-1, keepdim=True) > 2).float()\n$t = $a + ($b * k$n).sum(1, keepdim=True) / k$n.sum(1, keepdim=True).clamp(min=1)",
        layouts="t",
    ),
    Kind(
        "ragged_tokens",
        "k$n = $f.abs().sum(-1) > 2\nr$n = $L($a[k$n])\n$t = torch.zeros_like($a).masked_scatter(k$n.unsqueeze(-1).expand_as($a), r$n)",
        "$L = nn.Linear(4, 4)",
        layouts="t",
    ),
    Kind(
        "pad_sequence",
        "$t = nn.utils.rnn.pad_sequence([r[:1 + int(r.sum() > 0)] for r in $a], batch_first=True)\n$t = $b + $t.mean(1, keepdim=True)",
        layouts="t",
    ),
)
