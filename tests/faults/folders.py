"""Saved folders that someone has changed: each is refused with ``ArtifactError``.

Forged folders are changed in the same ways by someone who means harm, and writes all hashes anew. What loads then may
be another program, because any program can be saved; but it has to be one that does no more than compute.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import swdc
from swdc.artifacts.folder.save import _read, load_certificate
from swdc.artifacts.storage.folders import MANIFEST, _hash_of
from swdc.artifacts.storage.plain_json import read_json, write_json
from swdc.capture.meta_model import trace_skeleton
from swdc.errors import ArtifactError
from tests.faults.children import Judged, judged
from tests.faults.kills import INPUT, network

REFUSED, FORGED = "refused", "loaded"
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
    """Write the hashes of all files anew, as ``swdc.save`` does."""
    manifest = json.loads((folder / MANIFEST).read_text())
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and file.name != MANIFEST]
    manifest["files"] = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    write_json({**manifest, "sha256": _hash_of(manifest)}, folder / MANIFEST)


def forge(folder: Path) -> None:
    """Write all hashes anew, that of the graph, too, if there is still a graph to be read."""
    if not all(_is_short(file) for file in folder.iterdir()):
        return  # there is nothing to hash in a pipe, and no end to holes
    with suppress(Exception):  # a manifest that is none stays as it is
        manifest = json.loads((folder / MANIFEST).read_text())
        with suppress(Exception):
            manifest["program_hash"] = _read(folder, {file.name for file in folder.iterdir()}).hash()
        (folder / MANIFEST).write_text(json.dumps(manifest))
        seal(folder)


# -- changes ------------------------------------------------------------------------------------------------


def change_bytes(folder: Path, drawn: random.Random) -> None:
    """Flip, cut, double, empty or remove a file."""
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


def change_json(folder: Path, drawn: random.Random) -> None:
    """Replace, remove, double or add a value in a JSON file."""
    file = drawn.choice([file for file in sorted(folder.iterdir()) if file.suffix == ".json"])
    data = json.loads(file.read_text())
    for _ in range(drawn.choice([1, 1, 1, 3])):
        _change_value(data, drawn)
    file.write_text(json.dumps(data, indent=1) + "\n")


def change_header(folder: Path, drawn: random.Random) -> None:
    """Change the header of a safetensors file."""
    file = _weights(folder, drawn)
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    _change_value(header, drawn)
    text = json.dumps(header).encode()
    claimed = drawn.choice([len(text), len(text), len(text), 2**63, 2**40, len(data)])
    file.write_bytes(claimed.to_bytes(8, "little") + text + data[8 + length :])


def change_tensors(folder: Path, drawn: random.Random) -> None:
    """Swap, transpose, cast, rename, remove or add tensors, in a file that is well-formed."""
    file = _weights(folder, drawn)
    tensors = load_file(file)
    one, other = drawn.choice(sorted(tensors)), drawn.choice(sorted(tensors))
    changes: list[Callable[[], object]] = [
        lambda: tensors.update({one: tensors[other].clone(), other: tensors[one].clone()}),
        lambda: tensors.update({one: tensors[one].reshape(-1).clone()}),
        lambda: tensors.update({one: tensors[one].movedim(0, -1).contiguous()}),
        lambda: tensors.update({one: tensors[one].to(drawn.choice([torch.float16, torch.int8, torch.float64]))}),
        lambda: tensors.update({one: tensors[one] * drawn.choice([-1.0, 0.0, float("nan"), 1 + 1e-6])}),
        lambda: tensors.update({one + drawn.choice([".x", "'", " ", "\u0301"]): tensors.pop(one)}),
        lambda: tensors.pop(one),
        lambda: tensors.update({"more": torch.zeros(drawn.choice([0, 1, 10**6]))}),
    ]
    drawn.choice(changes)()
    save_file(tensors, file)


def change_names(folder: Path, drawn: random.Random) -> None:
    """Rename, exchange or add files."""
    one, other = drawn.sample(sorted(folder.iterdir()), 2)
    changes: list[Callable[[], object]] = [
        lambda: one.rename(folder / f"{one.name}{drawn.choice(['x', ' ', '.bak'])}"),
        lambda: one.rename(folder / one.name.upper()),
        lambda: one.replace(other),
        lambda: _exchange(one, other),
        lambda: shutil.copy(one, folder / drawn.choice(["more", "model-00009-of-00009.safetensors", "é", "a\nb"])),
        lambda: (folder / drawn.choice(["more", "cache"])).mkdir(),
        lambda: os.mkfifo(folder / "pipe"),
        lambda: (folder / "loop").symlink_to(folder),
    ]
    drawn.choice(changes)()


def change_kind(folder: Path, drawn: random.Random) -> None:
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
        lambda: file.write_text("{" + '"a": 1,' * 10**5 + '"a": 1}'),
    ]
    drawn.choice(kinds)()


CHANGES = (
    change_bytes, change_bytes, change_json, change_json, change_json, change_header, change_tensors, change_names,
    change_kind,
)  # fmt: skip


def changed(folder: Path, drawn: random.Random) -> str:
    """Change a folder until it differs from what it was, and return the name of the change."""
    before = _content(folder)
    change = drawn.choice(CHANGES)
    change(folder, drawn)
    while _content(folder) == before:
        change(folder, drawn)
    return change.__name__


def _content(folder: Path) -> dict[str, object]:
    """Return what is in a folder, as far as it can be told without reading what is endless."""
    return {file.name: _told(file) for file in folder.iterdir()}


def _told(file: Path) -> object:
    if file.name == MANIFEST and _is_short(file):
        with suppress(ValueError):  # the manifest has no hash beside it: other spaces, another order say the same
            return json.dumps(read_json(file), sort_keys=True)
    return file.read_bytes() if _is_short(file) else (file.lstat().st_mode, file.lstat().st_size)


def _is_short(file: Path) -> bool:
    """Whether a file is a regular one that can be read as a whole."""
    found = file.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_size < 2**30


def _weights(folder: Path, drawn: random.Random) -> Path:
    return drawn.choice([file for file in sorted(folder.iterdir()) if file.suffix == ".safetensors"])


def _exchange(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def _grow(file: Path) -> None:
    """Make a file 200 GB long, of which the disk holds only what was there."""
    os.truncate(file, 200 * 2**30)


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
    """What became of changed folders, what fell, and the most seconds and bytes that one has taken."""

    verdicts: Counter[str] = field(default_factory=Counter)
    fallen: list[str] = field(default_factory=list)
    seconds: float = 0.0
    grown: int = 0


def mutate(
    number: int, seed: int, *, forged: bool = False, announce: Callable[[int], None] = lambda done: None
) -> Mutations:
    """Change folders at random, and load each in a process of its own; ``forged``: with all hashes written anew."""
    found = Mutations()
    allowed = (REFUSED, FORGED) if forged else (REFUSED,)
    with tempfile.TemporaryDirectory() as name:
        originals = saved(Path(name))
        for k in range(number):
            drawn = random.Random(f"{seed + k}")
            change, judgement = _judgement(drawn.choice(originals), drawn, forged)
            kept = judgement.verdict in allowed
            found.verdicts[judgement.verdict if kept else "fallen"] += 1
            found.seconds, found.grown = max(found.seconds, judgement.seconds), max(found.grown, judgement.grown)
            if not kept:
                found.fallen.append(f"seed {seed + k}, {change}: {judgement.verdict}")
            announce(k + 1)
    return found


def _judgement(folder: Path, drawn: random.Random, forged: bool) -> tuple[str, Judged]:
    with tempfile.TemporaryDirectory() as name:
        copy = Path(shutil.copytree(folder, Path(name) / "changed"))
        change = changed(copy, drawn)
        return f"{change} in {folder.name}", judged(lambda: read(copy, forged))


def read(folder: Path, forged: bool) -> str:
    """Load a folder and its certificate, use what loads, and say what came of it."""
    if forged:
        forge(folder)
    verdicts = [_attempt(lambda: load_certificate(folder)), _attempt(lambda: _use(folder))]
    if not torch.is_grad_enabled() or torch.get_default_dtype() is not torch.float32:
        return "leaves the process in another state"
    wrong = [verdict for verdict in verdicts if verdict not in (REFUSED, FORGED)]
    return wrong[0] if wrong else REFUSED if REFUSED in verdicts else FORGED


def _use(folder: Path) -> None:
    """Do with a program what users do; a network that is forged may fail when it is called."""
    program = swdc.load(folder)
    again = swdc.load(swdc.save(program, folder.parent / "again"))
    if again.hash() != program.hash() or not str(program.explain()):
        raise ValueError("it does not come back")
    with suppress(Exception):
        program(INPUT)


def _attempt(load: Callable[[], object]) -> str:
    try:
        load()
    except ArtifactError:
        return REFUSED
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return FORGED
