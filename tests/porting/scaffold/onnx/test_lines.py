from frostline.porting.scaffold.onnx.lines import Lines
from frostline.porting.scaffold.onnx.node import Several
from frostline.porting.scaffold.onnx.values import FLOAT, Value


def test_a_value_that_the_next_line_alone_takes_is_x():
    lines = Lines()
    x = lines.argument("image", 4, FLOAT)
    one = lines.add(Value(f"F.relu({x.text})"), "relu")
    two = lines.add(Value(f"torch.tanh({one.text})"), "tanh")
    end = lines.add(Value(f"{one.text} + {two.text}"), "sum")
    assert lines.named([end.text]) == (
        ["x"], ["relu = F.relu(x)", "x = torch.tanh(relu)", "x = relu + x"], ["x"])  # fmt: skip


def test_an_input_that_is_taken_later_too_keeps_its_name():
    lines = Lines()
    x = lines.argument("image", 4, FLOAT)
    one = lines.add(Value(f"F.relu({x.text})"), "relu")
    end = lines.add(Value(f"{one.text} + {x.text}"), "sum")
    assert lines.named([end.text]) == (["image"], ["x = F.relu(image)", "x = x + image"], ["x"])


def test_lines_that_nothing_needs_are_left_out():
    lines = Lines()
    x = lines.argument("x", 2, FLOAT)
    lines.add(Value(f"F.relu({x.text})"), "relu")
    end = lines.add(Value(f"-{x.text}"), "neg")
    assert lines.named([end.text])[1] == ["x = -x"]


def test_a_name_needs_no_line():
    lines = Lines()
    assert lines.add(Value("self.scale"), "scale").text == "self.scale"
    x = lines.argument("x", 2, FLOAT)
    assert lines.add(x, "same") == x


def test_several_values_at_once():
    lines = Lines()
    x = lines.argument("x", 3, FLOAT)
    several = Several(f"self.lstm({x.text})", (Value("{}.unsqueeze(1)", 4), Value("{}", 3)), "{}, ({}, _)")
    outputs, state = lines.add_several(several, "lstm")
    assert (outputs.rank, state.rank) == (4, 3)
    assert lines.named([outputs.text]) == (["x"], ["lstm, (_, _) = self.lstm(x)", "x = lstm.unsqueeze(1)"], ["x"])
