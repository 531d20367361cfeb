import pytest

from frostline.core.errors import PortError
from frostline.porting.readers import strict_json
from frostline.porting.readers.weight_file import WeightFile


@pytest.fixture
def parse(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    with WeightFile(tmp_path / "a") as file:
        yield lambda text: strict_json.parse(file, text)


def test_json_is_read(parse):
    assert parse(b' {"a": [1, 2.5, null, true, "x\\"]]]]{{{\\\\"], "b": {}} ') == {
        "a": [1, 2.5, None, True, 'x"]]]]{{{\\'],
        "b": {},
    }
    assert parse(b"[" * 150 + b"]" * 150)


@pytest.mark.parametrize(
    ("text", "received"),
    [
        (b'{"a": 1, "b": {"a": 1, "a": 2}}', "the name 'a' is stated twice"),
        (b"[" * 100_000, "nested deeper"),
        (b'{"a":' * 100_000, "nested deeper"),
        (b"[" * 201 + b"]" * 201, "nested deeper"),
        (b'{"a": 1', "no JSON"),
        (b'{"a": "\xff"}', "no JSON"),
        (b"{} {}", "no JSON"),
        (b"", "no JSON"),
        (b'["' + b"[" * 100_000, "nested deeper"),
        (b"9" * 10_000, "no JSON"),
        (b"[" + b"[]," * 700_000 + b"[]]", "brackets, where"),
        (b" " * (strict_json.MAX_BYTES + 1), "are the limit"),
    ],
    ids=range(12),
)
def test_what_is_not_strict_json_is_refused(parse, text, received):
    with pytest.raises(PortError, match="damaged") as caught:
        parse(text)
    assert received in caught.value.received
