"""The structure of the project: public names, the rooms and who imports whom, and names that agree."""

from __future__ import annotations

import ast
import re
import tomllib
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import swdc
from swdc.errors import SwdcError
from swdc.rewriting.contract import ENTRY_POINTS, Pass, find_pass, pass_names

ROOT = Path(__file__).parent.parent
PASSES = sorted(p for p in (ROOT / "passes").glob("*.py") if p.stem != "__init__")
SOURCES = sorted([*(ROOT / "swdc").rglob("*.py"), *PASSES])
LONGEST = 300
"""Lines of the longest file."""

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
NARROWER = {
    "networks": set[str](),
    "capture": {"errors", "ir", "channels", "ops", "analysis"},
    "trainers": {"errors", "sparsity"},
    "passes": {"errors", "ir", "channels", "ops", "analysis", "costs", "rewriting"},
}
"""What may be imported by those that may not import all the rooms before them."""

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


def dotted(path: Path) -> str:
    """Return the name of the module in a file."""
    inside = path.relative_to(ROOT).with_suffix("")
    return ".".join(inside.parts[:-1] if inside.stem == "__init__" else inside.parts)


MODULES = {dotted(path): path for path in SOURCES}


def room_of(module: str) -> str:
    """Return the room of a module; ``swdc`` for what stands in none: the door for users, and ``python -m swdc``."""
    top, _, rest = module.partition(".")
    name = rest.split(".")[0]
    return name if top == "swdc" and name in ROOMS else top


def imports_of(path: Path) -> set[str]:
    """Return what a file imports, for types only as well: modules of ours, and packages of others."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{path.name} imports relatively; give the whole name"
            inside = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in inside.values()}
    return found


IMPORTS = {module: imports_of(path) for module, path in MODULES.items()}


def test_public_names_are_pinned():
    assert set(swdc.__all__) == PUBLIC
    assert all(getattr(swdc, name) is not None for name in PUBLIC)


def test_swdc_holds_its_rooms_and_nothing_else():
    folders = {p.name for p in (ROOT / "swdc").iterdir() if p.is_dir() and p.name != "__pycache__"}
    files = {p.name for p in (ROOT / "swdc").iterdir() if p.is_file()}
    assert folders == set(ROOMS) - {"errors"}
    assert len(folders) <= 12
    assert files == {"errors.py", "__init__.py", "__main__.py", "py.typed"}


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_those_before_it_only(module):
    own = room_of(module)
    before = set(ROOMS[: ROOMS.index(own)]) if own in ROOMS else set(ROOMS)
    allowed = {own} | NARROWER.get(own, before) | ({"swdc"} if own == "cli" else set())
    reached = {
        room_of(name) for name in IMPORTS[module] if name.split(".")[0] in ("swdc", "passes", "tests", "examples")
    }
    assert reached <= allowed, f"{module} imports {sorted(reached - allowed)}"


def test_modules_do_not_import_each_other_in_circles():
    edges = {module: (found & set(MODULES)) - {module} for module, found in IMPORTS.items()}
    try:
        list(TopologicalSorter(edges).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("path", PASSES, ids=lambda p: p.stem)
def test_no_pass_imports_another(path):
    assert not {name for name in imports_of(path) if name.startswith("passes")}


@pytest.mark.parametrize("module", MODULES)
def test_no_file_is_too_long(module):
    lines = len(MODULES[module].read_text().splitlines())
    assert lines <= LONGEST, f"{module} has {lines} lines, expected at most {LONGEST}; divide it by what it is about"


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


def families() -> list[Path]:
    """Return the files that add operators to the table."""
    return [p for p in sorted((ROOT / "swdc" / "ops").glob("*.py")) if re.search(r"^@register$", p.read_text(), re.M)]


@pytest.mark.parametrize("path", families(), ids=lambda p: p.stem)
def test_every_family_of_operators_has_a_test(path):
    assert (ROOT / "tests" / "ops" / f"test_{path.stem}.py").exists()


def test_all_errors_are_of_one_family():
    import swdc.errors as errors

    raised = [value for value in vars(errors).values() if isinstance(value, type)]
    assert len(raised) > 5
    assert all(issubclass(error, SwdcError) for error in raised)
