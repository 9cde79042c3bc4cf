"""Running the command line in the process of the tests."""

import json
from typing import Any

from typer.testing import CliRunner, Result

from swdc.cli import app
from swdc.cli.documents import PRINTED, ErrorDocument
from swdc.ir.data_forms import check_form


def run(*arguments: object) -> Result:
    """Run ``swdc`` with the given arguments, in a wide terminal."""
    return CliRunner(env={"COLUMNS": "250"}).invoke(app, [str(argument) for argument in arguments])


def run_json(*arguments: object, exit_code: int = 0) -> dict[str, Any]:
    """Run ``swdc`` with ``--json``; stdout must hold one JSON document and nothing else."""
    result = run(*arguments, "--json")
    assert result.exit_code == exit_code, result.stderr
    document = json.loads(result.stdout)
    assert isinstance(document, dict)
    forms = PRINTED[str(arguments[0])] if exit_code < 2 else (ErrorDocument,)
    form = next((form for form in forms if form.__annotations__.keys() == document.keys()), forms[0])
    check_form(document, form)
    return document


def run_error(*arguments: object) -> str:
    """Run ``swdc`` on something unusable; it must end with code 2, a message and no traceback."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr
