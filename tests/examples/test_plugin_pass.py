"""The plugin is installed into a folder, found through its entry point, and passes its own tests there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "examples" / "plugin_pass"


def install(folder: Path) -> None:
    """Put the plugin into a folder as an installer leaves it, without a build, which needs the network."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    folder.mkdir()
    shutil.copy(PLUGIN / "swdc_fold_scales.py", folder)
    about = folder / f"swdc_fold_scales-{project['version']}.dist-info"
    about.mkdir()
    about.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    (entries,) = project["entry-points"].items()
    lines = [f"[{entries[0]}]", *(f"{name} = {value}" for name, value in entries[1].items())]
    about.joinpath("entry_points.txt").write_text("\n".join(lines))


def test_an_installed_plugin_is_found_and_passes_its_own_tests(tmp_path):
    install(tmp_path / "site")
    path = os.pathsep.join([str(tmp_path / "site"), str(ROOT)])
    shutil.copy(PLUGIN / "test_fold_scales.py", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_fold_scales.py"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout


def test_the_page_shows_the_plugin_as_it_is():
    page = (ROOT / "docs" / "write-your-own" / "pass.md").read_text(encoding="utf-8")
    for name in ("pyproject.toml", "swdc_fold_scales.py", "test_fold_scales.py"):
        assert (PLUGIN / name).read_text(encoding="utf-8") in page, f"pass.md shows another {name}"
