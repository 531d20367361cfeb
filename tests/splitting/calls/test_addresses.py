import pytest
from torch import nn

from frostline.splitting.calls.addresses import Frame, Frames, Point


@pytest.mark.parametrize(
    ("point", "name"),
    [
        (Point(Frame("", 0), "input", 0, "mask"), "input.mask"),
        (Point(Frame("layer3", 0), "return", 0), "layer3"),
        (Point(Frame("layer3", 2), "return", 0), "layer3#2"),
        (Point(Frame("lstm", 0), "return", 0, 1), "lstm_1"),
        (Point(Frame("layer2", 0), "add", 1), "layer2.add_1"),
        (Point(Frame("", 0), "relu_", 0, "written"), "relu__written"),
    ],
)
def test_a_point_reads_as_people_say_it(point, name):
    assert point.name == name


def test_addresses_count_calls_per_module_and_operations_per_call():
    model = nn.Sequential(nn.ReLU())
    frames = Frames(model)
    root = frames.opened(model)
    assert [root.point("add").nth, root.point("mul").nth, root.point("add").nth] == [0, 0, 1]
    first = frames.opened(model[0])
    assert (frames.top, first.point("add").nth) == (first, 0)
    frames.close()
    assert frames.top is root
    assert frames.opened(model[0]).frame == Frame("0", 1)
    assert not frames.is_known(nn.ReLU())
