"""The defaults of every public function, method and record, as a committed list: users rely on each of them."""

import inspect
from pathlib import Path

import frostline as fl

LIST = Path(__file__).with_name("defaults.txt")


def public_calls():
    """(name, callable) of functions, classes and their public methods."""
    for holder, prefix in ((fl, "fl"), (fl.data, "fl.data"), (fl.remedies, "fl.remedies")):
        for name in sorted(vars(holder)):
            own = getattr(holder, name)
            if name.startswith("_") or inspect.ismodule(own) or not callable(own):
                continue
            yield f"{prefix}.{name}", own
            if inspect.isclass(own) and not issubclass(own, Exception):
                for method, function in sorted(vars(own).items()):
                    if not method.startswith("_") and inspect.isfunction(function):
                        yield f"{prefix}.{name}.{method}", function


def lines():
    """One for each parameter with a default."""
    for name, own in public_calls():
        for parameter in inspect.signature(own).parameters.values():
            if parameter.default is not inspect.Parameter.empty:
                default = parameter.default
                is_plain = isinstance(default, (bool, int, float, str, tuple, type(None)))
                yield f"{name}({parameter.name}={default!r})" if is_plain else f"{name}({parameter.name}=...)"


def test_a_default_is_changed_on_purpose_only():
    """After a change that is meant: `python tests/house/test_defaults.py` writes the list anew."""
    assert list(lines()) == LIST.read_text().splitlines()
    assert "fl.fit(lr=0.001)" in lines()


if __name__ == "__main__":
    LIST.write_text("\n".join(lines()) + "\n")
