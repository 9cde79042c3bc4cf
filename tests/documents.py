"""A page of Markdown as a program: its blocks run one after the other, and what they print is held against the page.

Blocks of Python and of the shell run in the current folder. A block of Python with a title (``title="my_model.py"``) is
written to that file. A block of text right after one that ran says what that printed; any number may stand for any
other there, because digits and times differ between machines, and a line ``...`` stands for lines left out.
``<!-- skip: next -->`` and ``<!-- invisible-code-block: python ... -->`` are those of Sybil.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from sysconfig import get_paths
from typing import Any

from sybil import Document, Example, Region
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, SkipParser
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer
from typer.testing import CliRunner

from swdc.cli import app

ROOT = Path(__file__).parents[1]
INSTALLS = re.compile(r"^(python3 -m venv|pip install) .*$", re.MULTILINE)
"""Lines that are left out, because they would change the environment of the tests."""
NUMBER = re.compile(r"\d[\d,.]*(e[+-]?\d+)?")
TITLED = RawFencedCodeBlockLexer(re.compile(r'python title="(?P<title>[\w./]+)"$\n', re.MULTILINE))
LEFT_OUT = "..."
WIDTH = "110"
"""Columns of the terminal."""


class Page:
    """The blocks of one page, with the names that they share."""

    def __init__(self, path: Path) -> None:
        self.path = path
        python = PythonEvaluator()
        self.document = Document.parse(
            str(path),
            CodeBlockParser("python", lambda example: self._run(example, lambda: python(example))),
            CodeBlockParser("bash", lambda example: self._run(example, lambda: _in_shell(example.parsed))),
            CodeBlockParser("text", self._compare),
            _titled,
            SkipParser(),
        )
        self.text = self.document.text
        self.names: dict[str, Any] = self.document.namespace
        self.names["__name__"] = "document"
        self.examples = list(self.document.examples())
        self._printed, self._end = "", -1
        self._changes: list[tuple[str, str]] | None = None

    def run(self, regenerate: bool) -> None:
        """Run all blocks; with ``regenerate`` outputs that are not the page's are written into it."""
        self._changes = [] if regenerate else None
        before, path = set(sys.modules), list(sys.path)
        sys.path.insert(0, str(Path.cwd()))
        try:
            for example in self.examples:
                example.evaluate()
        finally:
            sys.path[:] = path
            for name in set(sys.modules) - before:  # the files of this page, which another may name alike
                if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(Path.cwd()):
                    del sys.modules[name]
        text = self.text
        for old, new in self._changes or ():
            text = text.replace(old, new, 1)
        if text != self.text:
            self.path.write_text(text, encoding="utf-8")

    def _run(self, example: Example, call: Callable[[], None]) -> None:
        with redirect_stdout(StringIO()) as printed:
            call()
        said = printed.getvalue()
        for folder in (self.path.parent, Path.cwd(), get_paths()["purelib"]):  # of this machine
            said = said.replace(f"{folder}/", "")
        self._printed, self._end = said, example.region.end

    def _compare(self, example: Example) -> str | None:
        """Return what is wrong with a block of text, if it follows a block that ran."""
        if self._end < 0 or self.text[self._end : example.region.start].strip():
            return None
        shown = str(example.parsed)
        if _same(shown, self._printed) and (self._changes is None or LEFT_OUT in shown.split("\n")):
            return None
        if self._changes is None:
            return f"the page says\n{shown}\nbut printed was\n{self._printed}"
        self._changes.append((f"```text\n{shown}```", f"```text\n{_plain(self._printed)}\n```"))
        return None


def _titled(document: Document) -> list[Region]:
    """Return the blocks that have a file's name for a title."""
    return [
        Region(region.start, region.end, region.lexemes, lambda example: _write(example.parsed))
        for region in TITLED(document)
    ]


def _write(lexemes: dict[str, str]) -> None:
    Path(lexemes["title"]).write_text(lexemes["source"], encoding="utf-8")


def _in_shell(block: str) -> None:
    """Run a block of the shell; if it holds nothing but commands of swdc, in this process, because that is faster."""
    commands = [words for line in INSTALLS.sub("", block).splitlines() if (words := shlex.split(line, comments=True))]
    if any(words[0] != "swdc" for words in commands):
        _in_bash(INSTALLS.sub("", block))
        return
    for words in commands:
        result = CliRunner(env={"COLUMNS": WIDTH}).invoke(app, words[1:])
        assert result.exit_code == 0, f"{shlex.join(words)} ended with {result.exit_code}\n{result.output}"
        print(result.stdout, end="")


def _in_bash(commands: str) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    found = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PATH": path, "PYTHONPATH": found, "COLUMNS": WIDTH, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", INSTALLS.sub("", commands)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
    print(done.stdout, end="")


def _same(shown: str, printed: str) -> bool:
    """Return whether two outputs have the same words at the same places."""
    pattern = re.escape(_words(shown)).replace(rf"\n{re.escape(LEFT_OUT)}\n", r"\n(.*\n)*")
    return re.fullmatch(pattern, _words(printed)) is not None


def _words(output: str) -> str:
    lines = (" ".join(NUMBER.sub("#", re.sub("[━─]+", "━", line)).split()) for line in _plain(output).split("\n"))
    return "\n" + "\n".join(lines) + "\n"


def _plain(output: str) -> str:
    return "\n".join(line.rstrip() for line in output.strip("\n").split("\n"))
