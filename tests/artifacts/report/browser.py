"""Pages in a headless Chromium, which a script of the test uses as a reader would."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swdc.artifacts.report.page import hash_of

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_OUTCOME = re.compile(r'<pre id="outcome">(.*?)</pre>', re.DOTALL)
_EARLY = """
const troubles = [];
addEventListener("error", (event) => troubles.push(String(event.message)));
addEventListener("securitypolicyviolation", ({ violatedDirective }) => troubles.push(violatedDirective));
"""
_LATE = """
addEventListener("load", () => {
  const outcome = document.createElement("pre");
  outcome.id = "outcome";
  outcome.textContent = JSON.stringify({ found: use(), troubles });
  document.body.append(outcome);
});
"""


@dataclass(frozen=True)
class Outcome:
    """What a script returned, errors and refusals in the page, and the lines of the console."""

    found: Any
    troubles: list[str]
    console: list[str]


def used(page: Path, script: str, width: int = 1280) -> Outcome:
    """Open a page, run the body of a function in it, and return what that returns.

    The page is changed by the two scripts of the test alone, which its security policy is told of.
    """
    assert CHROMIUM is not None
    text = page.read_text(encoding="utf-8")
    for own, before in ((_EARLY, "<style>"), (f"function use() {{ {script} }}{_LATE}", "</body>")):
        text = text.replace(before, f"<script>{own}</script>{before}", 1)
        text = text.replace("script-src '", f"script-src '{hash_of(own)}' '", 1)
    copy = page.with_name(f"used-{page.name}")
    copy.write_text(text, encoding="utf-8")
    options = (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage",
        "--enable-logging=stderr", f"--user-data-dir={page.parent / 'chromium'}", f"--window-size={width},900",
    )  # fmt: skip
    ran = subprocess.run(
        [CHROMIUM, *options, "--dump-dom", copy.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    told = _OUTCOME.search(ran.stdout)
    assert told is not None, ran.stderr
    outcome = json.loads(html.unescape(told[1]))
    console = [line for line in ran.stderr.splitlines() if "CONSOLE" in line]
    return Outcome(outcome["found"], outcome["troubles"], console)
