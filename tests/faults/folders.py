"""Saved folders that someone has changed: each is refused with ``ArtifactError``, or loads to the same function.

Some changes leave the manifest as it was. Others write the hashes of the files anew, as someone would who means harm.
What loads then may be another program, a forged one, but it has to be a program.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import swdc
from swdc.capture.meta_model import trace_skeleton
from swdc.errors import ArtifactError
from swdc.export.folder.save import load_certificate
from tests.faults.children import judged
from tests.faults.kills import INPUT, network

REFUSED, SAME, FORGED = "refused", "the same function", "a forged program"
HOSTILE: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 2**63, 10**30, -(10**400), 1.5, float("nan"), float("inf"), "", "x", "self", "torch",
    "__import__('os').system('false')", "10**10**10", "(", "a b", "s0//0", "Mod(1,0)", "9" * 5000, "-" * 3000 + "1",
    "..", "/etc/passwd", "../" * 9 + "etc/passwd", "\u0000", "\ud800", "torch.ops.aten.set_grad_enabled.default",
    "torch.ops.aten.save.default", "torch.ops.aten.from_file.default", "operator.attrgetter", "os.system", "__class__",
    "_facts", [], {}, [[]], {"node": "x"}, {"tensor": "x"}, {"float": "1e999"}, {"dtype": "load"}, {"tuple": [1]},
    {"device": "nowhere"}, {"slice": [1, 2, 3, 4]}, {"slice": [{}]}, [2**62, 2**62], {"a": 1, "b": 2},
    '[1, {"type": "collections.defaultdict", "context": "[]", "children_spec": []}]',
    '[1, {"type": "builtins.tuple", "context": "null", "children_spec": []}]',
)  # fmt: skip
"""What a value in a JSON file is replaced by."""


def saved(folder: Path) -> list[Path]:
    """Save programs of several kinds below a folder, and return their folders."""
    dense = swdc.trace(network(0), INPUT)
    plan = swdc.plan(dense, 0.5)
    slim = swdc.slim(dense, plan)
    folders = [
        swdc.save(dense, folder / "dense"),
        swdc.save(slim, folder / "slim", swdc.verify(swdc.mask(dense, plan), slim)),
    ]
    save_file(dict(network(0).state_dict()), folder / "given.safetensors")
    given, skeleton = swdc.Checkpoint(folder / "given.safetensors"), trace_skeleton(lambda: network(0), (INPUT,), {})
    swdc.slim_checkpoint(skeleton, swdc.plan(skeleton, 0.5, weights=given), given, folder / "streamed", 64)
    return [*folders, folder / "streamed"]


def seal(folder: Path) -> None:
    """Write the hashes of all files anew."""
    manifest = json.loads((folder / "manifest.json").read_text())
    names = [file for file in folder.iterdir() if file.is_file() and file.name != "manifest.json"]
    manifest["files"] = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in names}
    (folder / "manifest.json").write_text(json.dumps(manifest))


# -- changes ------------------------------------------------------------------------------------------------


def change_bytes(folder: Path, drawn: random.Random) -> bool:
    """Flip, cut, double, empty or remove a file; return whether the hashes are written anew."""
    file = drawn.choice(sorted(folder.iterdir()))
    data = bytearray(file.read_bytes())
    for _ in range(drawn.choice([1, 1, 8])):
        data[drawn.randrange(min(len(data), drawn.choice([16, 10**9])))] = drawn.randrange(256)
    place = drawn.randrange(len(data))
    made = drawn.choice([data, data, data, data[:place], data + data[place:], data[place:], b"", None])
    if made is None:
        file.unlink()
    else:
        file.write_bytes(made)
    return _sealed(folder, drawn, file)


def change_json(folder: Path, drawn: random.Random) -> bool:
    """Replace, remove, double or add a value in a JSON file; return whether the hashes are written anew."""
    file = drawn.choice([file for file in sorted(folder.iterdir()) if file.suffix == ".json"])
    data = json.loads(file.read_text())
    for _ in range(drawn.choice([1, 1, 1, 3])):
        _change_value(data, drawn)
    file.write_text(json.dumps(data))
    return _sealed(folder, drawn, file)


def change_header(folder: Path, drawn: random.Random) -> bool:
    """Change the header of a safetensors file; return whether the hashes are written anew."""
    file = drawn.choice([file for file in sorted(folder.iterdir()) if file.suffix == ".safetensors"])
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    _change_value(header, drawn)
    text = json.dumps(header).encode()
    claimed = drawn.choice([len(text), len(text), len(text), 2**63, 2**40, len(data)])
    file.write_bytes(claimed.to_bytes(8, "little") + text + data[8 + length :])
    return _sealed(folder, drawn, file)


def change_kind(folder: Path, drawn: random.Random) -> bool:
    """Put something else in the place of a file: a link, a pipe, a folder, holes, deep or endless JSON."""
    file = drawn.choice(sorted(folder.iterdir()))
    aside = folder.parent / f"{file.name}.aside"
    shutil.move(file, aside)
    kinds: list[Callable[[], object]] = [
        lambda: file.symlink_to(aside),
        lambda: file.symlink_to("/dev/zero"),
        lambda: file.symlink_to(file),
        lambda: os.mkfifo(file),
        lambda: file.mkdir(),
        lambda: _grow(Path(shutil.copy(aside, file))),
        lambda: file.write_text("[" * 10 ** drawn.randrange(2, 6)),
        lambda: file.write_text("[" * 900 + "]" * 900),
        lambda: file.write_text('{"a": ' * 5000 + "1" + "}" * 5000),
        lambda: file.write_text("9" * 10 ** drawn.randrange(2, 6)),
        lambda: file.write_text("[" + "[]," * 10**5 + "[]]"),
        lambda: file.write_text('"\\"' * 10**5),
    ]
    drawn.choice(kinds)()
    if file.is_file() and file.stat().st_size < 2**30 and not file.is_symlink():
        return _sealed(folder, drawn, file)
    return False


CHANGES = (change_bytes, change_json, change_json, change_json, change_header, change_kind)


def _grow(file: Path) -> None:
    """Make a file 200 GB long, of which the disk holds only what was there."""
    os.truncate(file, 200 * 2**30)


def _sealed(folder: Path, drawn: random.Random, changed: Path) -> bool:
    if changed.name == "manifest.json":
        return True
    anew = drawn.random() < 0.7
    if anew:
        seal(folder)
    return anew


def _change_value(data: Any, drawn: random.Random) -> None:
    """Change a value somewhere in nested data, in place."""
    holder, key = data, None
    while isinstance(holder, dict | list) and holder:
        key = drawn.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        if not isinstance(holder[key], dict | list) or not holder[key] or drawn.random() < 0.2:
            break
        holder = holder[key]
    if key is None:
        return
    what = drawn.randrange(6)
    if what == 0:
        del holder[key]
    elif what == 1 and isinstance(holder, list):
        holder.append(holder[key])
    elif what == 2 and isinstance(holder, dict):
        holder[str(drawn.choice(HOSTILE))] = holder.pop(key)
    elif what == 3 and isinstance(holder[key], str):
        holder[key] += drawn.choice(["", "x", ".", "'", '"', "\n", "é"])
    else:
        holder[key] = drawn.choice(HOSTILE)


# -- verdicts -----------------------------------------------------------------------------------------------


@dataclass
class Mutations:
    """What became of changed folders, and what fell."""

    verdicts: Counter[str] = field(default_factory=Counter)
    fallen: list[str] = field(default_factory=list)


def mutate(number: int, seed: int, announce: Callable[[int], None] = lambda done: None) -> Mutations:
    """Change folders at random, and load each in a process of its own."""
    found = Mutations()
    with tempfile.TemporaryDirectory() as name:
        originals = saved(Path(name))
        results = {folder: swdc.load(folder)(INPUT) for folder in originals}
        for k in range(number):
            drawn = random.Random(f"{seed + k}")
            folder = drawn.choice(originals)
            change = drawn.choice(CHANGES)
            verdict = _verdict(folder, change, drawn, results[folder])
            found.verdicts[verdict if verdict in (REFUSED, SAME, FORGED) else "fallen"] += 1
            if verdict not in (REFUSED, SAME, FORGED):
                found.fallen.append(f"seed {seed + k}, {change.__name__} in {folder.name}: {verdict}")
            announce(k + 1)
    return found


def _verdict(
    folder: Path, change: Callable[[Path, random.Random], bool], drawn: random.Random, expected: torch.Tensor
) -> str:
    with tempfile.TemporaryDirectory() as name:
        copy = Path(shutil.copytree(folder, Path(name) / "changed"))
        forged = change(copy, drawn)
        return judged(lambda: loaded(copy, expected, forged))


def loaded(folder: Path, expected: torch.Tensor, forged: bool) -> str:
    """Load a folder and its certificate, and say what came of it."""
    verdicts = [_attempt(lambda: load_certificate(folder)), _attempt(lambda: swdc.load(folder))]
    wrong = [verdict for verdict in verdicts if verdict not in (REFUSED, SAME)]
    if wrong or REFUSED in verdicts:
        return wrong[0] if wrong else REFUSED
    if not torch.is_grad_enabled():
        return "leaves gradients turned off"
    if forged:
        return FORGED
    return SAME if torch.equal(swdc.load(folder)(INPUT), expected) else "another function"


def _attempt(load: Callable[[], object]) -> str:
    try:
        load()
    except ArtifactError:
        return REFUSED
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return SAME
