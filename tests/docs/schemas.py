"""JSON Schemas, and tables of fields, made from the classes that describe the JSON documents of swdc."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_PLAIN: dict[Any, Any] = {
    int: {"type": "integer"}, float: {"type": ["number", "null"]}, str: {"type": "string"},
    bool: {"type": "boolean"}, Any: {}, type(None): {"type": "null"},
}  # fmt: skip
_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", Any: "anything", type(None): "null"}


def schema(form: Any) -> dict[str, Any]:
    """Return the JSON Schema of a class. A number may be null, because JSON has no infinity."""
    found: dict[str, Any] = {}
    top = _schema(form, found)
    return {"$schema": _DRAFT, "title": name_of(form), **top, "$defs": dict(sorted(found.items()))}


def name_of(form: Any) -> str:
    """Return the name of a class, without the underscore of private ones."""
    return str(form.__name__).lstrip("_")


def hints_of(form: Any) -> dict[str, Any]:
    """Return the fields of a class with their annotations."""
    hints = get_type_hints(form, include_extras=True)
    return hints if is_typeddict(form) else {field.name: hints[field.name] for field in fields(form)}


def required(form: Any) -> list[str]:
    """Return the fields that are always there."""
    return sorted(form.__required_keys__) if is_typeddict(form) else [field.name for field in fields(form)]


def is_object(hint: Any) -> bool:
    """Whether an annotation is a class with fields."""
    return is_dataclass(hint) or is_typeddict(hint)


def inside(form: Any) -> Iterator[Any]:
    """Yield the classes that the fields of a class name, directly."""
    pending = list(hints_of(form).values())
    while pending:
        hint = pending.pop(0)
        if is_object(hint):
            yield hint
        else:
            pending += get_args(hint)


def _schema(hint: Any, found: dict[str, Any]) -> dict[str, Any]:
    origin, inner = get_origin(hint), get_args(hint)
    if is_object(hint):
        if name_of(hint) not in found:
            found[name_of(hint)] = {}  # before its fields, which may name it
            found[name_of(hint)] = _object(hint, found)
        return {"$ref": f"#/$defs/{name_of(hint)}"}
    if origin is Annotated:
        return {**_schema(inner[0], found), "description": inner[1]}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(one, found) for one in inner]}
    if origin in (list, tuple, Sequence):
        return {"type": "array", "items": _schema(inner[0], found)}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": _schema(inner[1], found)}
    if origin is Literal:
        return {"enum": list(inner)}
    return dict(_PLAIN[hint])


def _object(form: Any, found: dict[str, Any]) -> dict[str, Any]:
    properties = {name: _schema(hint, found) for name, hint in hints_of(form).items()}
    described = {"description": inspect.cleandoc(form.__doc__ or "")}
    return {
        **described, "type": "object", "properties": properties, "required": required(form),
        "additionalProperties": False,
    }  # fmt: skip


def table(form: Any) -> list[str]:
    """Return the fields of a class as a table of Markdown."""
    needed = required(form)
    rows = ["| field | type | meaning |", "|---|---|---|"]
    for name, hint in hints_of(form).items():
        text = get_args(hint)[1] if get_origin(hint) is Annotated else ""
        there = "" if name in needed else "not always there"
        rows.append(f"| `{name}` | {words(hint)} | {'; '.join(filter(None, (text, there))) or '-'} |")
    return rows


def words(hint: Any) -> str:
    """Return an annotation in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if is_object(hint):
        return f"[{name_of(hint)}](#{name_of(hint).lower()})"
    if origin is Annotated:
        return words(inner[0])
    if origin in (Union, types.UnionType):
        return " or ".join(words(one) for one in inner)
    if origin in (list, tuple, Sequence):
        return f"list of {words(inner[0])}"
    if origin in (dict, Mapping):
        return f"object, each value {words(inner[1])}"
    if origin is Literal:
        return " or ".join(f"`{one}`" for one in inner)
    return _WORDS[hint]
