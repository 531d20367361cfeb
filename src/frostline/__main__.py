"""`python -m frostline` is the command `frostline`."""

from frostline.cli.main import app

if __name__ == "__main__":
    app()
