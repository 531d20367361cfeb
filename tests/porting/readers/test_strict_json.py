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
        (b'{"a": 1, "b": {"a": 1, "a": 2}}', "the name 'a' occurs twice"),
        (b"[" * 100_000, "levels deep"),
        (b'{"a":' * 100_000, "levels deep"),
        (b"[" * 201 + b"]" * 201, "levels deep"),
        (b'{"a": 1', "invalid JSON"),
        (b'{"a": "\xff"}', "invalid JSON"),
        (b"{} {}", "invalid JSON"),
        (b"", "invalid JSON"),
        (b'["' + b"[" * 100_000, "levels deep"),
        (b"9" * 10_000, "invalid JSON"),
        (b"[" + b"[]," * 700_000 + b"[]]", "brackets; the limit is"),
        (b" " * (strict_json.MAX_BYTES + 1), "the limit is"),
    ],
    ids=range(12),
)
def test_what_is_not_strict_json_is_refused(parse, text, received):
    with pytest.raises(PortError, match="damaged") as caught:
        parse(text)
    assert received in caught.value.received
