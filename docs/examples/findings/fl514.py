"""Pairs that a user does not like are drawn among all pairs, those that the user likes as well."""

from setting import nn, torch

import frostline as fl


def batches_of(is_checked):
    """Batches of a user, an item, and whether the user likes it; negatives may be checked."""
    torch.manual_seed(0)
    likes = torch.randn(40, 3) @ torch.randn(3, 30) > 0
    user, item, is_negative = torch.randint(40, (3000,)), torch.randint(30, (3000,)), torch.rand(3000) < 0.5
    is_kept = torch.where(is_negative, ~likes[user, item] if is_checked else torch.tensor(True), likes[user, item])
    rows, target = (40 * item + user)[is_kept], (~is_negative[is_kept]).float()[:, None]
    return [(rows[order], target[order]) for _ in range(3) for order in torch.randperm(len(rows)).split(32)[:-1]]


model = nn.Embedding(1200, 1)
loss = nn.BCEWithLogitsLoss()
diagnosis = fl.checkup(model, batches_of(False), loss, torch.optim.Adam(model.parameters(), lr=0.3))

# Fixed: a pair that the user likes is no negative.
model = nn.Embedding(1200, 1)
fixed = fl.checkup(model, batches_of(True), loss, torch.optim.Adam(model.parameters(), lr=0.3))
