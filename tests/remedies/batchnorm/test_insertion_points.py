import torch
from torch import nn

from frostline.core.tracing import trace
from frostline.remedies.batchnorm.insertion_points import find_places


def places(model, x):
    return find_places(model, trace(model.eval(), x), None)


def test_pools_dropouts_and_shapes_are_looked_through():
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.MaxPool1d(2), nn.Dropout(), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4),
                          nn.Unflatten(1, (2, 2)), nn.Flatten(), nn.Tanh(), nn.Linear(4, 2), nn.Softmax(1))  # fmt: skip
    found, notes = places(model, torch.randn(3, 2, 9))
    assert [(place.name, place.axis, place.dims, place.channels) for place in found] == [
        ("0", 1, 3, 4),
        ("5", -1, 2, 4),
    ]
    assert notes == [("9", "an output layer")]


def test_every_output_layer_is_one():
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(4, 1)

        def forward(self, x):
            x = torch.relu(self.body(x))
            return self.a(x), torch.sigmoid(self.b(x))

    found, notes = places(Heads(), torch.randn(3, 4))
    assert [place.name for place in found] == ["body"]
    assert {name for name, _ in notes} == {"a", "b"}


def test_inputs_without_a_batch_axis():
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Conv1d(4, 2, 3))
    assert places(model, torch.randn(2, 9))[1][0] == ("0", "its output has no batch axis")


class Functions(nn.Module):
    def __init__(self, follower):
        super().__init__()
        self.body, self.out, self.follower = nn.Linear(4, 4), nn.Linear(4, 2), follower

    def forward(self, x):
        return self.out(torch.relu(self.follower(self.body(x))))


def test_norms_and_shapes_that_are_functions_are_known():
    normed, notes = places(Functions(lambda x: nn.functional.layer_norm(x, (4,))), torch.randn(3, 4))
    assert normed == []
    assert notes[0] == ("body", "a norm follows already")
    for passing in (lambda x: nn.functional.pad(x, (0, 0)), lambda x: x.view(-1, 4), nn.functional.dropout):
        assert [place.name for place in places(Functions(passing), torch.randn(3, 4))[0]] == ["body"]
    _, notes = places(Functions(torch.abs), torch.randn(3, 4))
    assert notes[0][1].startswith("no activation follows directly")


def test_a_model_that_holds_attention_itself_is_no_block():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.out = nn.Linear(4, 4), nn.Linear(4, 2)
            self.attention = nn.MultiheadAttention(4, 1, batch_first=True)

        def forward(self, x):
            x = torch.relu(self.body(x))
            return self.out(self.attention(x, x, x, need_weights=False)[0])

    found, _ = places(Model(), torch.randn(3, 5, 4))
    assert [place.name for place in found] == ["body"]


def test_the_order_is_that_of_execution():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.second, self.first, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.out(torch.relu(self.second(torch.relu(self.first(x)))))

    assert [place.name for place in places(Backwards(), torch.randn(3, 4))[0]] == ["first", "second"]
