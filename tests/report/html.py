"""What a test needs to know about a page: its elements in order, its texts, and whether it is balanced."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "img", "link", "input"}
BLOCK = {"p", "div", "ul", "ol", "dl", "table", "section", "article", "header", "figure", "details", "pre", "h1", "h2", "h3", "h4", "h5"}


@dataclass
class Element:
    """An element with the texts inside it."""

    tag: str
    attributes: dict[str, str | None]
    path: tuple[str, ...] = ()
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The characters inside, as they are."""
        return "".join(self.texts)

    @property
    def said(self) -> str:
        """What a reader reads: the words inside, in single spaces (those that do not break stay)."""
        return re.sub("[ \n\t]+", " ", " ".join(self.texts)).strip()


@dataclass
class Page(HTMLParser):
    """Parses a page; raises AssertionError where it is not balanced."""

    html: str
    elements: list[Element] = field(default_factory=list)
    stack: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.html)
        self.close()
        assert not self.stack, f"never closed: {[element.tag for element in self.stack]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Opens an element."""
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice"
        assert not (tag in BLOCK and any(element.tag == "p" for element in self.stack)), f"<{tag}> inside <p>"
        element = Element(tag, dict(attrs), path=tuple(element.tag for element in self.stack))
        self.elements.append(element)
        if tag not in VOID:
            self.stack.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Opens and closes an element."""
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        """Closes the innermost element."""
        assert self.stack, f"</{tag}> closes nothing"
        element = self.stack.pop()
        assert element.tag == tag, f"</{tag}> where <{element.tag}> is open"

    def handle_data(self, data: str) -> None:
        """Adds a text to every element it is in; what a script says nobody reads."""
        innermost = self.stack[-1:]
        for element in innermost if innermost and innermost[0].tag == "script" else self.stack:
            element.texts.append(data)

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """Returns the elements of a tag that have these attributes."""
        return [element for element in self.elements if element.tag == tag and attributes.items() <= element.attributes.items()]

    @property
    def said(self) -> str:
        """Everything a reader reads."""
        return self.all("body")[0].said
