"""Running the measurements in the process of the tests."""

from typer.testing import CliRunner, Result

from examples.bench.__main__ import app


def run_bench(*arguments: object) -> Result:
    """Run ``python -m examples.bench`` with the given arguments, in a wide terminal."""
    return CliRunner(env={"COLUMNS": "250"}).invoke(app, [str(argument) for argument in arguments])
