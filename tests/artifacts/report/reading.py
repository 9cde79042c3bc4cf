"""A page as a parser of HTML sees it: its elements, its tables, and its data."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

EMPTY = {"meta", "input", "br", "rect", "line", "path", "circle", "polyline"}
"""Elements without content, as the template writes them."""


@dataclass
class Element:
    """An element of a page."""

    tag: str
    attributes: dict[str, str | None]
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text within the element, spaces as a browser shows them."""
        return " ".join("".join(self._pieces()).split())

    def _pieces(self) -> list[str]:
        return [piece for c in self.children for piece in ([c] if isinstance(c, str) else c._pieces())]

    def all(self, tag: str) -> list[Element]:
        """Return the elements of a kind within this one, in order."""
        found: list[Element] = []
        for child in self.children:
            if isinstance(child, Element):
                found += [*([child] if child.tag == tag else []), *child.all(tag)]
        return found


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = Element(tag, dict(attrs))
        self.open[-1].children.append(made)
        if tag not in EMPTY:
            self.open.append(made)

    def handle_endtag(self, tag: str) -> None:
        if tag not in EMPTY:
            assert self.open.pop().tag == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


class Page:
    """A page that was written."""

    def __init__(self, path: Path) -> None:
        parser = _Parser()
        parser.feed(path.read_text(encoding="utf-8"))
        parser.close()
        assert parser.open == [parser.root], "an element is not closed"
        self.root = parser.root

    @property
    def data(self) -> Any:
        """The data that the page holds."""
        return json.loads("".join(self.by_id("swdc-data")._pieces()))

    def by_id(self, name: str) -> Element:
        """Return the only element with an id."""
        (found,) = [element for element in self.every() if element.attributes.get("id") == name]
        return found

    def every(self) -> list[Element]:
        """Return all elements in order."""
        found, left = [], [self.root]
        while left:
            element = left.pop()
            found.append(element)
            left += [child for child in reversed(element.children) if isinstance(child, Element)]
        return found

    def ids(self) -> list[str]:
        """Return the ids of all elements."""
        return [name for element in self.every() if (name := element.attributes.get("id"))]

    def rows(self, table: str) -> list[list[Element]]:
        """Return the cells of the rows in the body of a table."""
        (body,) = self.by_id(table).all("tbody")
        return [[cell for cell in row.children if isinstance(cell, Element)] for row in body.all("tr")]
