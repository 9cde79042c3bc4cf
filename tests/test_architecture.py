"""The structure of the project: public names, the rooms and who imports whom, and names that agree."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from torch import nn

import swdc
from swdc import ops
from swdc.errors import SwdcError
from swdc.ops.base import OPERATORS, Operator
from swdc.rewriting.pass_base import ENTRY_POINTS, Pass, find_pass, pass_names

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
    "artifacts",
    "trainers",
    "cli",
)
"""The rooms of swdc in the order in which data flows; each imports those before it, never those after it."""
NARROWER = {
    "networks": set[str](),
    "capture": {"errors", "ir", "channels", "ops", "analysis"},
    "trainers": {"errors", "ir", "sparsity"},
    "passes": {"errors", "ir", "channels", "ops", "analysis", "costs", "rewriting"},
}
"""What may be imported by those that may not import all the rooms before them."""

PUBLIC = {
    "SWD",
    "Calibration",
    "Call",
    "CannotCapture",
    "Captured",
    "Certificate",
    "ChannelGroup",
    "Channels",
    "Checkpoint",
    "Compression",
    "Cost",
    "Count",
    "Dimensions",
    "ExportReport",
    "Kept",
    "LatencyTable",
    "Layer",
    "Leaf",
    "MeasuredTable",
    "Method",
    "Norm",
    "OnnxReport",
    "Operator",
    "Pass",
    "PassResult",
    "Plan",
    "Program",
    "QuantizationReport",
    "Ref",
    "Sensitivity",
    "Subject",
    "SwdcError",
    "Target",
    "Way",
    "apply_pass",
    "calibrate",
    "calls",
    "compress",
    "count",
    "deploy",
    "export",
    "export_onnx",
    "fall_of_metric",
    "insert_batchnorm",
    "load",
    "load_into",
    "mask",
    "pass_names",
    "plan",
    "quantize_onnx",
    "recover",
    "refit",
    "register",
    "register_way",
    "relax_norms",
    "report",
    "revise",
    "save",
    "save_pretrained",
    "sensitivity",
    "slim",
    "slim_checkpoint",
    "slim_optimizer",
    "targets_of",
    "trace",
    "trace_skeleton",
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


def test_three_former_places_still_work_and_no_module_is_loaded_twice():
    from swdc.artifact import load_certificate
    from swdc.latency.cache import Cache
    from swdc.plan import Plan

    assert (Plan.__module__, Cache.__module__) == ("swdc.ir.plan", "swdc.costs.latency.cache")
    assert load_certificate.__module__ == "swdc.artifacts.folder.save"
    assert "swdc.latency" in sys.modules, "a script that has not imported swdc imports the parent first"
    with pytest.raises(ModuleNotFoundError, match=r"swdc\.latency"):
        import_module("swdc.latency.table")  # the alias of a package would load its modules once more
    named = [module.__name__ for name, module in sys.modules.items() if name.startswith("swdc.")]
    assert len({*named}) == len({id(sys.modules[name]) for name in named})


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

    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    raised = [cls for cls in classes if cls.__module__ == errors.__name__]
    assert len(raised) > 5
    assert all(issubclass(error, SwdcError) for error in raised)


OUTSIDE = [path for path in SOURCES if path.relative_to(ROOT).parts[:2] not in (("swdc", "ops"), ("swdc", "networks"))]
OVERLOADS = OPERATORS.operators
PACKETS = {name.split(".")[1] for name in OVERLOADS}
QUALIFIED = {".".join(name.split(".")[:2]) for name in OVERLOADS}
FAMILIES = {operator.family for operator in OVERLOADS.values()} - {""}
FUNCTIONS = PACKETS | {function.__name__ for function in OPERATORS.functions}
"""Names in torch.nn.functional that mean an operator of the table."""
LAYERS = {
    base.__name__
    for cls in vars(nn).values() if isinstance(cls, type) and issubclass(cls, nn.Module)
    for base in cls.__mro__ if base.__module__.startswith("torch.nn.modules.") and base is not nn.Module
} - {"Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict", "Container"}  # fmt: skip
"""Layers of torch, and the base classes that they share."""
OF_AN_OPERATOR = re.compile(r"""(\boperator|\bfamily)(['"]\])?$|\b(name|family|kind)_of\(.*\)$""")
"""Code that gives the name of an operator or of its family."""


def names_operators(text: str) -> bool:
    """Whether a text names an operator with its namespace, or is nothing but bare names of operators.

    A single bare word counts only if it is not a word of other code, because it has an underscore or a digit.
    """
    if "aten." in text or re.search(r"torch\.nn\.modules\.\w", text):
        return True
    if not QUALIFIED.isdisjoint(re.findall(r"\w+\.\w+", text)):
        return True
    words = [word.removesuffix("_") for word in text.split()]
    bare = bool(words) and all(word in PACKETS for word in words)
    return bare and (len(words) > 1 or bool(re.search(r"[_\d]", words[0])))


def is_of_torch(name: str) -> bool:
    """Whether a dotted name is that of a layer of torch, or of a function of torch.nn that an operator stands for."""
    before, _, last = name.rpartition(".")
    module = before.split(".")[-1]
    if module in ("F", "functional"):
        return last in FUNCTIONS
    return last in LAYERS and (module == "nn" or before.startswith("torch.nn"))


def compares_names_of_operators(node: ast.AST) -> bool:
    """Whether code compares the name of an operator or of a family with a text that is part of such names."""
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and "with" in node.func.attr:
        sides = [node.func.value, *node.args]
    else:
        return False
    others = [side for side in sides if not OF_AN_OPERATOR.search(ast.unparse(side))]
    inside = [part.value for side in others for part in ast.walk(side) if isinstance(part, ast.Constant)]
    texts = [value for value in inside if isinstance(value, str) and value]
    return len(others) < len(sides) and any(text in name for text in texts for name in (*OVERLOADS, *FAMILIES))


def operators_named_in(path: Path) -> list[str]:
    """Return where a file names operators, or the layers and functions of torch.nn that are operators.

    A file names them in texts that are not docstrings, as attributes, by importing them, and by comparing their names.
    The functions of Python's module ``operator`` are operators where a file works with graphs.
    """
    tree = ast.parse(path.read_text())
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported = {f"{node.module}.{alias.name}" for node in froms for alias in node.names}
    functions = {name for name in OVERLOADS if name.startswith("operator.")} if "torch.fx" in imported else set()
    found = [name for name in imported if name in functions or is_family_class(name) or is_of_torch(name)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            found += [f"{node.lineno}: {node.value!r}"] if names_operators(node.value) else []
        elif isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            named = name.startswith("torch.ops.") or name in functions or is_of_torch(name)
            found += [f"{node.lineno}: {name}"] if named else []
        elif compares_names_of_operators(node):
            found.append(f"{node.lineno}: {ast.unparse(node)}")
    return found


def is_family_class(name: str) -> bool:
    """Whether a dotted name is that of an operator's class, rather than of a base class or of a function."""
    module, _, attribute = name.rpartition(".")
    if not module.startswith("swdc.ops."):
        return False
    found = getattr(import_module(module), attribute, None)
    return isinstance(found, type) and issubclass(found, Operator) and bool(found.names)


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda p: str(p.relative_to(ROOT)))
def test_operators_are_named_in_their_families_alone(path):
    assert operators_named_in(path) == [], "ask the operator, in a method of swdc.ops.base.Operator"


def test_what_names_operators_is_told_from_what_does_not(tmp_path):
    named = ("aten.conv", "torchvision.nms.default", "relu relu_ tanh", "batch_norm", "is aten.relu.default")
    for text in named:
        assert names_operators(text), text
    for text in ("torchvision.models:resnet18", "torch.ops.", "select a slice", "view", "operator", "", "swdc.slim"):
        assert not names_operators(text), text
    file = tmp_path / "file.py"
    file.write_text(
        '"""Draws aten.relu."""\nimport operator\nfrom torch import fx\nfrom swdc.ops.linear import Linear\n'
        "torch.ops.aten.relu.default, operator.getitem, operator.attrgetter\n"
    )
    found = operators_named_in(file)
    assert "swdc.ops.linear.Linear" in found
    assert "5: torch.ops.aten.relu.default" in found
    assert "5: operator.getitem" in found
    assert not any("attrgetter" in name or name.startswith("1:") for name in found)


NAMED = {
    "import torch.nn.functional as F\nF.dropout1d": "2: F.dropout1d",
    "from torch import nn\n{nn.Linear: 1}": "2: nn.Linear",
    "isinstance(x, torch.nn.modules.conv._ConvNd)": "1: torch.nn.modules.conv._ConvNd",
    "from torch.nn.modules.batchnorm import _BatchNorm": "torch.nn.modules.batchnorm._BatchNorm",
    "cls.startswith('torch.nn.modules.dropout.')": "1: 'torch.nn.modules.dropout.'",
    "'norm' not in layer['operator']": "1: 'norm' not in layer['operator']",
    "call.operator == 'add'": "1: call.operator == 'add'",
    "operator.family in ('linear', 'x')": "1: operator.family in ('linear', 'x')",
    "name_of(node.target).startswith('aten')": "1: name_of(node.target).startswith('aten')",
}
NOT_NAMED = (
    "from torch.nn import functional\nfunctional.cross_entropy(x, y)",
    "isinstance(x, nn.Module | nn.Parameter), nn.Sequential()",
    "type(module).__module__.startswith('torch.nn.modules.')",
    "layer.operator == 'ConvTranspose'",  # an operator of ONNX
    "node.op == 'output', layer['operator'] == name, call.operator == other.operator",
)


@pytest.mark.parametrize("text", NAMED)
def test_layers_functions_and_compared_names_are_found(text, tmp_path):
    file = tmp_path / "file.py"
    file.write_text(text)
    assert NAMED[text] in operators_named_in(file)


@pytest.mark.parametrize("text", NOT_NAMED)
def test_what_only_looks_like_them_is_not_found(text, tmp_path):
    file = tmp_path / "file.py"
    file.write_text(text)
    assert operators_named_in(file) == []


def test_families_of_operators_are_found_and_not_listed():
    families = {path.stem for path in (ROOT / "swdc" / "ops").glob("[a-z]*.py")}
    assert all(f"swdc.ops.{family}" in sys.modules for family in families)
    assert set(ops.__all__) == {
        "Cost", "Leaf", "Operator", "calls", "leaf_of", "lookup", "register", "shapes_of"
    }  # fmt: skip
    text = (ROOT / "swdc" / "ops" / "__init__.py").read_text()
    assert not [family for family in families - {"base", "call_cost"} if re.search(rf"\b{family}\b", text)]
