"""The page itself: a template that is filled with plain data, its style and its script within it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from swdc.artifacts.report import numbers
from swdc.artifacts.report.bars import draw_bars
from swdc.artifacts.report.curves import draw_curves
from swdc.artifacts.report.trial_curve import draw_trials

_PACKAGE, _FOLDER = "swdc.artifacts.report", "template"


def page_of(data: Mapping[str, Any]) -> str:
    """Return the page that shows plain data, which it holds as JSON, too.

    Names and texts in the data are escaped wherever they stand. The page says to the browser which style and which
    script are its own, by their hashes, and that it loads nothing: no other script would run.
    """
    style, script = _own("page.css"), _own("page.js")
    return (
        _environment()
        .get_template("page.html")
        .render(
            data=data,
            bars=draw_bars(data["widths"]) if "widths" in data else None,
            curves=draw_curves(data["sweep"]) if "sweep" in data else [],
            trial_curves=draw_trials(data["compression"]) if "compression" in data else [],
            style=style,
            script=script,
            style_hash=hash_of(style),
            script_hash=hash_of(script),
            version=version("swdc"),
        )
    )


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader(_PACKAGE, _FOLDER), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    made.filters |= {
        name: getattr(numbers, name) for name in ("number", "error", "percent", "share", "removed", "sentence")
    }
    return made


@cache
def _own(name: str) -> str:
    return files(_PACKAGE).joinpath(_FOLDER, name).read_text(encoding="utf-8")


def hash_of(text: str) -> str:
    """Return the hash of an element's text, as a content security policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
