import contextlib

from frostline.splitting.sources import (
    Source,
    catches,
    loaded,
    loaded_arguments,
    nested,
    sources_of,
    stored,
    with_callees,
)
from helpers_splitting import Net

RATE = 2.0


def _named(value):
    return value * RATE


def _calling(m, batch):
    m.count = len(batch)
    m.calls += 1
    return _named(m.high(m.low(batch)) * m.gain)


def test_names_that_code_reads_and_writes():
    code = _calling.__code__
    assert {"high", "low", "gain", "_named"} <= loaded(code)
    assert "calls" not in loaded(code)  # only added to
    assert {"count", "calls"} <= set(stored(code))


def test_inner_functions_belong_to_the_code():
    def outer():
        def inner():
            return RATE

        return inner

    assert [code.co_name for code in nested(outer.__code__)] == ["outer", "inner"]


def test_functions_that_code_names_are_followed():
    model = Net(_calling)
    names = {source.code.co_name for source in with_callees(sources_of(model), [model])}
    assert {"forward", "_calling", "_named"} <= names


def test_closures_and_default_arguments_are_known():
    factor = 3.0

    def scaled(value, power=[2]):  # noqa: B006
        return value * factor ** power[0]

    source = Source.of_function(scaled)
    assert dict(source.closure) == {"factor": 3.0}
    assert source.defaults == {"power": [2]}
    factor = 4.0
    assert source.closure["factor"] == 4.0


def test_arguments_that_code_only_adds_to_are_not_read():
    def logging(value, log=[], *, scale=[1.0], shown=[]):  # noqa: B006
        log.append(value)
        return value * scale[0] + sum(inner for inner in (lambda: shown)())

    assert {"value", "scale", "shown"} <= loaded_arguments(logging.__code__)
    assert "log" not in loaded_arguments(logging.__code__)


def _typed(value):
    try:
        return 1 / value
    except ZeroDivisionError:
        return 0


def _bare(value):
    try:
        return 1 / value
    except:  # noqa: E722
        return 0


def _suppressed(value):
    with contextlib.suppress(ZeroDivisionError):
        return 1 / value


def _plain(value):
    with contextlib.nullcontext():
        return 1 / value


def test_code_that_handles_errors_is_told_from_code_that_does_not():
    assert [catches(function.__code__) for function in (_typed, _bare, _suppressed, _plain)] == [
        True,
        True,
        True,
        False,
    ]
