"""The structure of the project: public names, the order of the layers, and names that agree."""

from __future__ import annotations

import ast
import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import swdc
from swdc.errors import SwdcError
from swdc.rewriting.contract import ENTRY_POINTS, Pass, find_pass, pass_names

ROOT = Path(__file__).parent.parent
PASSES = sorted(p for p in (ROOT / "passes").glob("*.py") if p.stem != "__init__")

ROOMS = (
    "errors",
    "networks",
    "ir",
    "channels",
    "ops",
    "analysis",
    "costs",
    "capture",
    "rewriting",
    "sparsity",
    "export",
    "trainers",
    "cli",
)
"""The rooms of swdc in the order in which data flows; each imports those before it, never those after it."""

PUBLIC = {
    "SWD",
    "Certificate",
    "Checkpoint",
    "Count",
    "OnnxReport",
    "Operator",
    "Plan",
    "Program",
    "SwdcError",
    "count",
    "deploy",
    "export_onnx",
    "insert_batchnorm",
    "load",
    "mask",
    "plan",
    "register",
    "relax_norms",
    "save",
    "slim",
    "slim_checkpoint",
    "trace",
    "transplant",
    "verify",
}


def imports_of(path: Path) -> set[str]:
    """Return the modules that a file imports when it runs, not those for types only."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def unit(module: str) -> str:
    """Return the module or subpackage of swdc that a dotted name lies in."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def unit_of_file(path: Path) -> str:
    inside = path.relative_to(ROOT / "swdc")
    if len(inside.parts) > 1:
        return inside.parts[0]
    return "" if inside.stem == "__init__" else inside.stem


SOURCES = sorted((ROOT / "swdc").rglob("*.py"))
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def test_public_names_are_pinned():
    assert set(swdc.__all__) == PUBLIC
    assert all(getattr(swdc, name) is not None for name in PUBLIC)


def test_every_module_has_a_layer():
    assert {unit_of_file(path) for path in SOURCES} == set(LEVEL)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_layers_import_downwards_only(path):
    own = unit_of_file(path)
    units = {name for levels in LAYERS for name in levels}
    for module in imports_of(path):
        assert not module.startswith("passes"), f"{path.name} imports {module}; passes are found through entry points"
        if module.startswith("swdc.") and unit(module) in units:
            assert LEVEL[unit(module)] <= LEVEL[own], f"{own} imports {module}, which stands above it"


def test_modules_do_not_import_each_other_in_circles():
    edges: dict[str, set[str]] = {name: set() for name in LEVEL}
    for path in SOURCES:
        own = unit_of_file(path)
        edges[own] |= {unit(m) for m in imports_of(path) if m.startswith("swdc.")} & set(LEVEL) - {own, ""}
    done: set[str] = set()
    while free := {name for name in edges if name not in done and edges[name] <= done}:
        done |= free
    assert done == set(edges), f"circles among {set(edges) - done}"


def test_passes_stand_above_the_compiler_and_below_the_users():
    for path in PASSES:
        above = {"cli", "demo", "bench", "artifact", "onnx", "verify", "rewrite", "trace", "deployment"}
        reached = {unit(m) for m in imports_of(path) if m.startswith("swdc.")}
        assert not reached & above, f"{path.name} imports {reached & above}"
        assert not any(m.startswith("passes") for m in imports_of(path)), f"{path.name} imports another pass"


@pytest.mark.parametrize("path", PASSES, ids=lambda p: p.stem)
def test_file_class_name_entry_point_and_test_agree(path):
    name = path.stem.replace("_", "-")
    cls = find_pass(name)
    assert issubclass(cls, Pass)
    assert re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower() == path.stem
    assert cls.__module__ == f"passes.{path.stem}"
    assert cls.name() == name
    assert cls.__dataclass_params__.frozen
    assert "::" in cls.__doc__, "the docstring of a pass shows the graph before and after"
    assert (ROOT / "tests" / "passes" / f"test_{path.stem}.py").exists()
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][ENTRY_POINTS]
    assert declared[name] == f"passes.{path.stem}:{cls.__name__}"


def test_every_installed_pass_of_ours_is_a_file():
    ours = {e.name for e in entry_points(group=ENTRY_POINTS) if e.value.startswith("passes.")}
    assert ours == {p.stem.replace("_", "-") for p in PASSES}
    assert ours <= set(pass_names())


@pytest.mark.parametrize("path", sorted((ROOT / "swdc" / "ops").glob("[a-z]*.py")), ids=lambda p: p.stem)
def test_every_family_of_operators_has_a_test(path):
    assert (ROOT / "tests" / "ops" / f"test_{path.stem}.py").exists()


def test_all_errors_are_of_one_family():
    import swdc.errors as errors

    raised = [value for value in vars(errors).values() if isinstance(value, type)]
    assert len(raised) > 5
    assert all(issubclass(error, SwdcError) for error in raised)
