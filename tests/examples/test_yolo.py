"""The tutorial for YOLO shows what its script does; where ultralytics is installed, the script runs on a few images."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "yolo" / "slim_yolo11.py"
PAGE = ROOT / "docs" / "tutorials" / "yolo.md"
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def test_the_blocks_of_the_page_stand_in_the_script():
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) >= 2
    for block in blocks:
        assert block in SCRIPT.read_text(encoding="utf-8")


def test_the_options_of_the_page_are_those_of_the_script():
    called = re.findall(r"slim_yolo11\.py (.*)", PAGE.read_text(encoding="utf-8"))
    assert called
    for option in re.findall(r"--[\w-]+", " ".join(called)):
        assert f'"{option}"' in SCRIPT.read_text(encoding="utf-8")


@pytest.mark.skipif(find_spec("ultralytics") is None, reason="ultralytics is under the AGPL, and no dependency")
def test_the_script_trains_cuts_trains_on_and_exports(tmp_path):
    given = ["--out", str(tmp_path / "yolo"), "--images", "16", "--side", "64", "--epochs", "1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *given], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "certificate: exact" in done.stdout
    rows = re.findall(r"^(dense|slim|recovered) .* ([\d,]+) +[\d.]+$", done.stdout, re.MULTILINE)
    counts = {name: int(count.replace(",", "")) for name, count in rows}
    assert counts["slim"] == counts["recovered"] < 0.7 * counts["dense"]
    assert (tmp_path / "yolo" / "slim" / "weights" / "last.onnx").is_file()
