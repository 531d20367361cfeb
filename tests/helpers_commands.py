"""The commands as people call them, in this process."""

from typer.testing import CliRunner

from frostline.cli.main import app

MODEL = "frostline.demo.demo:build"


def run(*args, code=0):
    """The result of `frostline` with these arguments, which ends with this exit code."""
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exit_code == code, (result.output, result.exception)
    return result
