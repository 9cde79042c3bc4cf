"""The structures of inputs and outputs as text, in the form of torch's pytrees; classes of the user by their fields."""

from __future__ import annotations

import json
from collections import OrderedDict, defaultdict, namedtuple
from contextlib import suppress
from typing import Any

from torch.utils import _pytree as pytree

from swdc.artifacts.folder.json_values import decode, encode
from swdc.artifacts.storage.plain_json import parse_json
from swdc.errors import ArtifactError
from swdc.ir.result_classes import Opened, argument_class, class_of_fields, is_registered, record, remade

_FACTORIES = (list, dict, set, tuple, int, float, bool, str)
"""What a ``defaultdict`` may call for a missing key."""
_NAMED, _RECORD, _ARGUMENT, _KEYED, _DEFAULTS = (
    "named tuple",
    "dataclass",
    "registered dataclass",
    "dict",
    "defaultdict",
)


def encode_structure(spec: Any) -> str:
    """Return a pytree structure as text. Raises ``ArtifactError`` for a container that cannot be described.

    A named tuple or a dataclass is described by the name of its class and those of its fields.
    """
    try:
        text = pytree.treespec_dumps(remade(spec, _described))
        decode_structure(text)
    except (NotImplementedError, TypeError, ArtifactError) as error:
        raise ArtifactError(
            f"expected inputs and outputs in tuples, lists and dicts, or in classes registered with a "
            f"serialized name in torch.utils._pytree, got another container: {error}; use a dict, or "
            f"register the class"
        ) from error
    return text


def decode_structure(text: str) -> Any:
    """Return the pytree structure that ``encode_structure`` wrote.

    Nothing is imported: classes of the user are made anew, with the same names and fields and without methods. Raises
    ``ArtifactError`` if the structure needs a class that is not registered, or names objects to import.
    """
    _check_structure(parse_json(text.encode())[1])
    try:
        return remade(pytree.treespec_loads(text), _restored)
    except NotImplementedError as error:
        raise ArtifactError(
            f"expected containers that torch knows here, but {error}; import the package that defines the class"
        ) from error


class _Described:
    """Stands in the text for a container that torch has no text for, or none that keeps it as it is."""


pytree.register_pytree_node(
    _Described, lambda _: ([], None), lambda *_: _Described(), serialized_type_name="swdc.described",
    to_dumpable_context=json.dumps, from_dumpable_context=json.loads,
)  # fmt: skip


def _described(kind: Any, context: Any) -> tuple[Any, Any]:
    """Return what stands in the text for a kind of container and its context."""
    if kind is Opened:
        return _Described, [_RECORD, context.cls.__name__, *context._fields]
    if is_registered(kind, context):
        return _Described, [_ARGUMENT, kind.__name__, *context]
    if kind is namedtuple and context not in pytree.SUPPORTED_SERIALIZED_TYPES:
        return _Described, [_NAMED, context.__name__, *context._fields]
    if kind is defaultdict and context[0] in _FACTORIES:
        return _Described, [_DEFAULTS, context[0].__name__, encode(context[1])]
    if kind in (dict, OrderedDict) and encode(context) != context:
        return _Described, [_KEYED, kind.__name__, encode(context)]
    return kind, context


def _restored(kind: Any, context: Any) -> tuple[Any, Any]:
    """Return the kind of container and the context that ``_described`` was given."""
    if kind is not _Described:
        return kind, context
    described, name, *rest = context
    if described == _NAMED:
        return namedtuple, class_of_fields(name, tuple(rest))
    if described == _ARGUMENT:
        fields, absent = rest
        return argument_class(name, (*fields, *absent)), [fields, absent]
    if described == _RECORD:
        return Opened, record(name, tuple(rest))
    keys = decode(rest[0], {})
    if described == _DEFAULTS:
        return defaultdict, [next(one for one in _FACTORIES if one.__name__ == name), keys]
    return {"dict": dict, "OrderedDict": OrderedDict}[name], keys


def _check_structure(data: Any) -> None:
    context = data["context"]
    if context is not None:
        if not isinstance(context, str):
            raise ArtifactError(f"expected a container described by text, got {context!r}; use a plain dict")
        with suppress(json.JSONDecodeError):  # not JSON: the name of a registered class
            json.loads(context, object_hook=None if data["type"] == "swdc.described" else _refuse)
    for child in data["children_spec"]:
        _check_structure(child)


def _refuse(found: dict[str, Any]) -> Any:
    """Refuse an object in a context, because torch would import what it names."""
    raise ArtifactError(f"expected keys of plain types, got {found}; use strings or numbers as keys")
