"""What commands print, and how they fail."""

import io
import json
import logging
import os
import sys
import warnings
from pathlib import Path

import pytest
import typer

from swdc.cli.documents import ErrorDocument
from swdc.cli.terminal.output import Output, check_file, reported
from swdc.errors import CommandError, PlanError
from swdc.ir.data_forms import check_form


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("json_only", "spins"), [(False, True), (True, False)])
def test_a_step_spins_on_a_terminal_except_with_json(
    monkeypatch: pytest.MonkeyPatch, json_only: bool, spins: bool
) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    with Output(json_only).step("tracing resnet18"):
        pass
    assert ("tracing resnet18" in terminal.getvalue()) is spins
    assert spins or terminal.getvalue() == ""


def test_a_step_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Output().step("tracing resnet18"):
        pass
    assert capsys.readouterr() == ("", "")


def test_a_table_sets_numbers_right_and_shows_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table("Layers", ["tensor[dim]", "number"], [["conv[dim]", 1234567], ["fc[0]", 5]])
    lines = capsys.readouterr().out.splitlines()
    assert "tensor[dim]" in lines[1]
    assert any("conv[dim]" in line and line.rstrip().endswith("1,234,567") for line in lines)
    assert any("fc[0]" in line and line.rstrip().endswith("        5") for line in lines)


def test_json_is_all_that_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(json_only=True)
    output.line("text")
    output.table("title", ["column"], [["row"]])
    output.notes(["watch out"])
    output.document({"error": float("inf"), "nested": [{"value": float("nan")}], "half": 0.5})
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"error": None, "nested": [{"value": None}], "half": 0.5}
    assert captured.err == "note: watch out\n"


def test_no_json_without_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    Output().document({"a": 1})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("error", [PlanError("expected a, got b; do c"), FileExistsError("expected a, got b; do c")])
def test_errors_become_a_message_and_code_2(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, reported():
        raise error
    assert ended.value.exit_code == 2
    assert capsys.readouterr() == ("", "error: expected a, got b; do c\n")


def test_a_traceback_is_shown_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), reported(show_traceback=True):
        raise PlanError("expected a")
    text = capsys.readouterr().err
    assert text.startswith("Traceback")
    assert text.endswith("error: expected a\n")


def test_an_unexpected_error_is_a_defect_with_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, reported():
        raise KeyError("oops")
    assert ended.value.exit_code == 3
    text = capsys.readouterr().err
    assert "KeyError: 'oops'" in text
    assert "this is a defect of swdc, please report it" in text


def test_a_command_may_end_with_a_code_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, reported():
        raise typer.Exit(1)
    assert ended.value.exit_code == 1
    assert capsys.readouterr() == ("", "")


def test_prints_warnings_and_logs_of_others_stay_away_from_the_result(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = logging.root.manager.disable
    with reported() as output:
        print("printed")
        warnings.warn("warned", stacklevel=1)
        logging.getLogger("elsewhere").error("logged")
        output.line("result")
    assert capsys.readouterr() == ("result\n", "printed\n")
    assert logging.root.manager.disable == before


def test_a_file_may_take_the_place_of_a_file_and_of_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    for path in (None, tmp_path / "file", tmp_path / "free"):
        check_file(path, "--onnx")
    for path in (tmp_path / "link", tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(CommandError, match=r"expected --onnx to name a file to write, but .* special file"):
            check_file(path, "--onnx")
    with pytest.raises(CommandError, match="expected --onnx to name a file, got the folder"):
        check_file(tmp_path, "--onnx")


@pytest.mark.parametrize(("error", "code"), [(PlanError("expected a, got b"), 2), (ZeroDivisionError("x"), 3)])
def test_with_json_an_error_is_the_document(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, reported(json_only=True):
        raise error
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    check_form(document, ErrorDocument)
    assert ended.value.exit_code == document["error"]["exit_code"] == code
    assert document["error"]["kind"] == type(error).__name__
    assert document["error"]["message"] in captured.err


def test_an_error_after_the_document_does_not_add_a_second_one(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        with reported(json_only=True) as output:
            output.document({"a": 1})
            raise PlanError("expected a, got b")

    with pytest.raises(typer.Exit):
        command()
    assert json.loads(capsys.readouterr().out) == {"a": 1}
