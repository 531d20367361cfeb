"""Values, policies and graphs that go astray: of the third draw (docs/exam.md)."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, epochs_of, perceptron, published
from .examples import explained

third = partial(published, part="third draw")


class _Valued(nn.Module):
    """The value of a state, and that of the one after it by a copy that follows slowly. (N, 2, D) to (N, 2)."""

    def __init__(self, *, follows: bool) -> None:
        super().__init__()
        self.online = perceptron(12, 32, 1)
        self.target = deepcopy(self.online).requires_grad_(requires_grad=False)
        self.follows = follows

    def forward(self, states_N2D: Tensor) -> Tensor:
        if self.training and self.follows:
            with torch.no_grad():
                for slow, fast in zip(self.target.parameters(), self.online.parameters(), strict=True):
                    slow.lerp_(fast, 0.05)
        return torch.cat([self.online(states_N2D[:, 0]), self.target(states_N2D[:, 1])], 1)


@third(
    "kakaoenterprise/JORLDY#120",
    right={"FL405", "wiring", "targets"},
    words=("update", "slow copy", "never move", "lerp", "target network"),
    line="self.update_target_soft(self.target_actor) (the update was missing)",
    counts="That the copy which makes the targets never moves, or that the targets are those of an untrained network.",
)
def copy_for_the_targets_never_follows(is_sick: bool) -> Training:
    """The slow copy that gives the value of the next state is never updated: it stays as random as it began."""
    generator = torch.Generator().manual_seed(0)
    state = torch.randint(12, (9600,), generator=generator)
    states = F.one_hot(torch.stack([state, (state + 1).clamp_max(11)], 1), 12).float()
    ends = (state == 11).float()
    value = 0.9 ** (11 - torch.arange(12.0))
    model = _Valued(follows=not is_sick)

    def loss_fn(output: Tensor, ends: Tensor) -> Tensor:
        wanted = ends + 0.9 * (1 - ends) * output[:, 1].detach()
        return (output[:, 0] - wanted).square().mean()

    def measure(_: Tensor, __: Tensor) -> float:
        return explained(model.online(torch.eye(12)), value[:, None])

    optimizer = torch.optim.Adam(model.online.parameters(), 1e-2)
    return Training(model, epochs_of(states, ends, 16, 1), loss_fn, optimizer, measure=measure)


class _Chased(nn.Module):
    """The value of a state, and that of the one after it: by a copy that follows slowly, or by the network itself."""

    def __init__(self, *, has_copy: bool) -> None:
        super().__init__()
        self.online, self.has_copy = nn.Linear(8, 1, bias=False), has_copy
        self.copy = deepcopy(self.online).requires_grad_(requires_grad=False)

    def forward(self, states_N2D: Tensor) -> Tensor:
        if not self.has_copy:
            return self.online(states_N2D)[..., 0]
        if self.training:
            with torch.no_grad():
                self.copy.weight.lerp_(self.online.weight, 0.05)
        return torch.cat([self.online(states_N2D[:, 0]), self.copy(states_N2D[:, 1])], 1)


def _star() -> tuple[Tensor, Tensor]:
    """(features_78, value_7): from each of six states, and from the seventh, the seventh is next (Baird, 1995)."""
    features = torch.cat([2 * torch.eye(7), torch.ones(7, 1)], 1)
    features[6, 6:] = torch.tensor([1.0, 2.0])
    reward = torch.randn(7, generator=torch.Generator().manual_seed(0))
    reward[6] = 0.1
    return features, torch.cat([reward[:6] + 0.9, torch.ones(1)])


@third(
    "josiahls/fast-reinforcement-learning#4, mrkulk/deepQN_tensorflow#1",
    right={"loss_mismatch", "FL503", "targets", "wiring"},
    words=("target network", "slow copy", "moving", "own output", "runs away", "run away"),
    line="wanted = reward + 0.9 * copy(after) (the fixed target network had been removed)",
    counts="That the targets are made by the very network that learns them, so that both run away; a rate alone is no "
    "cause, since lower ones run away as well.",
)
def targets_run_away(is_sick: bool) -> Training:
    """The slow copy that makes the targets was removed: each step moves the target as well, and both run away."""
    features, value = _star()
    state = torch.randint(7, (4800,), generator=torch.Generator().manual_seed(1))
    states = torch.stack([features[state], features[6].expand(len(state), 8)], 1)
    # the last value is the reward and what follows for good
    reward = torch.cat([value[:6] - 0.9, torch.tensor([0.1])])[state]
    model = _Chased(has_copy=not is_sick)

    def loss_fn(output: Tensor, reward: Tensor) -> Tensor:
        return (output[:, 0] - reward - 0.9 * output[:, 1].detach()).square().mean()

    def measure(_: Tensor, __: Tensor) -> float:
        return explained(model.online(features), value[:, None])

    optimizer = torch.optim.SGD(model.online.parameters(), 0.05)
    return Training(model, epochs_of(states, reward, 16, 3), loss_fn, optimizer, measure=measure)


def _games(count: int) -> tuple[Tensor, Tensor]:
    """(cards_N6, what each of 4 moves is worth): of the cards, by a rule."""
    generator = torch.Generator().manual_seed(0)
    cards = torch.randn(count, 6, generator=generator)
    worth = cards @ torch.randn(6, 4, generator=generator)
    return cards, worth


def _episodes(training: Training, monitor: Any, *, is_reset: bool) -> None:
    """Plays one game a batch until it is done, and learns from its moves; `done` may be left as it was."""
    torch.manual_seed(0)
    done = False
    for cards, worth in training.batches:
        done = False if is_reset else done
        training.optimizer.zero_grad()
        loss = torch.zeros((), requires_grad=True)
        while not done:
            output = training.model(cards)
            moves = output.softmax(1).multinomial(1)
            gain = worth.gather(1, moves) - worth.mean(1, keepdim=True)
            loss = -(output.log_softmax(1).gather(1, moves) * gain).mean()
            done = True  # a game has one move each
        loss.backward()
        training.optimizer.step()
        monitor.step(loss)


@third(
    "seungeunrho/minimalRL#28",
    right={"FL405", "FL406", "FL607", "wiring"},
    words=("gradient", "depend", "done", "no step", "reset"),
    line="done = False (within the loop over episodes, and not before it)",
    counts="That after the first episode no parameter gets a gradient, or that nothing moves.",
)
def done_is_not_reset(is_sick: bool) -> Training:
    """What says that an episode is done is not reset: from the second one on nothing is played, and nothing learnt."""
    cards, worth = _games(1600)
    model = perceptron(6, 32, 4)

    def loss_fn(output: Tensor, worth: Tensor) -> Tensor:
        return -(output.softmax(1) * (worth - worth.mean(1, keepdim=True))).sum(1).mean()

    def measure(output: Tensor, worth: Tensor) -> float:
        return float((output.argmax(1) == worth.argmax(1)).float().mean())

    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    loop = partial(_episodes, is_reset=not is_sick)
    return Training(model, epochs_of(cards, worth, 32, 4), loss_fn, optimizer, loop, measure=measure)


class _Routes(nn.Module):
    """A score of each node of graphs that are joined to one: (N, G, 3) to (N, G)."""

    def __init__(self, *, moves_on: bool) -> None:
        super().__init__()
        self.own, self.near = nn.Linear(3, 32), nn.Linear(3, 32)
        self.out, self.moves_on = perceptron(32, 32, 1), moves_on
        node = torch.arange(10)
        self.register_buffer("edges_2E", torch.stack([torch.cat([node, node]), torch.cat([node - 1, node + 1]) % 10]))

    def forward(self, nodes_NGD: Tensor) -> Tensor:
        count, flat = len(nodes_NGD), nodes_NGD.flatten(0, 1)
        into, of = self.get_buffer("edges_2E")
        if self.moves_on:
            first = 10 * torch.arange(count)[:, None]
            into, of = (into + first).flatten(), (of + first).flatten()
        near = torch.zeros(len(flat), 32).index_add(0, into, self.near(flat)[of])
        return self.out((self.own(flat) + near).relu()).reshape(count, 10)


@third(
    "ai4co/rl4co#227",
    right={"FL506", "FL513", "wiring"},
    words=("edge", "other samples", "other rows", "of the batch", "place in the batch"),
    line="edge_index = edge_index + num_nodes * graph (of each graph of the batch, and not of the first alone)",
    counts="That what a row gets depends on its place in the batch, or that the neighbours of most rows have no "
    "effect on them.",
)
def edges_of_the_first_graph(is_sick: bool) -> Training:
    """Nodes of a batch are joined, and the edges are those of one graph: only the first one gets any messages."""
    generator = torch.Generator().manual_seed(0)
    nodes = torch.randn(1600, 10, 3, generator=generator)
    target = (nodes[..., 0] + nodes[..., 1].roll(1, 1) + nodes[..., 1].roll(-1, 1)).tanh()
    model = _Routes(moves_on=not is_sick)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    return Training(model, epochs_of(nodes, target, 32, 6), F.mse_loss, optimizer)
