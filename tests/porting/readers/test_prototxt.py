from pathlib import Path

import pytest

from frostline.core.errors import PortError
from frostline.porting.readers import prototxt
from frostline.porting.readers.weight_file import WeightFile


@pytest.fixture
def parse(tmp_path):
    def call(text):
        (tmp_path / "a").write_bytes(text if isinstance(text, bytes) else text.encode())
        with WeightFile(tmp_path / "a") as file:
            return prototxt.parse(file)

    return call


def test_every_way_to_write_a_field(parse):
    assert parse(
        """
        name: "it's" # a comment: { "
        words: 'a \\'b\\'' ; size: -3, ratio: 1.5e-3 plain: MAX on: true off: false
        shape { dim: 1 dim: 2 } shape: < dim: 3 > list: [1, 2, 3] empty {}
        """
    ) == {
        "name": ["it's"], "words": ["a 'b'"], "size": [-3], "ratio": [1.5e-3], "plain": ["MAX"], "on": [True],
        "off": [False], "shape": [{"dim": [1, 2]}, {"dim": [3]}], "list": [1, 2, 3], "empty": [{}],
    }  # fmt: skip
    assert parse("") == {}


def test_a_real_description():
    with WeightFile(Path(__file__).parents[1] / "files" / "caffe" / "net.prototxt") as file:
        network = prototxt.parse(file)
    assert [layer["name"][0] for layer in network["layer"]] == [
        "conv",
        "bn",
        "scale",
        "act",
        "pool",
        "up",
        "fc",
        "prob",
    ]
    assert network["layer"][0]["convolution_param"][0]["bias_term"] == [False]


@pytest.mark.parametrize(
    "text",
    [
        "a {", "a { b: 1 >", "a: 1 }", "a:", "a", "a: }", "a: :", 'a: "open', "a: [", "a: \x00", b"\xff\xfe\x00",
        "a { " * 100_000,
    ],
)  # fmt: skip
def test_other_texts_are_refused(parse, text):
    with pytest.raises(PortError, match="damaged"):
        parse(text)


def test_a_description_is_bounded(parse, monkeypatch):
    monkeypatch.setattr(prototxt, "MAX_BYTES", 10)
    with pytest.raises(PortError, match="a text file of 12 bytes"):
        parse("a: 1 a: 1   ")
