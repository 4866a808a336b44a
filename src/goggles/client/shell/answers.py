"""What a command says: text for people or one JSON document for programs, and errors on standard error.

Law: with JSON, a command that succeeds prints exactly one document, on one line of standard output; an error is one
line {code, message, hint} on standard error.
"""

from __future__ import annotations

import sys
from typing import Any

from goggles.client.shell import render
from goggles.client.shell.words import safe
from goggles.errors import GogglesError


class Answers:
    """The output of one shell.  `begin` and `finish` stand around each command."""

    def __init__(self, always_json: bool) -> None:
        self._always = always_json
        self.json = always_json
        self._items = -1  # written so far; -1: the answer is not a list
        self.out = render.console()
        self.err = render.console(stderr=True)

    def begin(self, as_json: bool) -> None:
        self.json = self._always or as_json
        self._items = -1

    def finish(self, failed: bool = False) -> None:
        """Close the list, if the answer is one, and flush."""
        if self.json and (self._items > 0 or (self._items == 0 and not failed)):
            sys.stdout.write("]\n" if self._items else "[]\n")
        self.json, self._items = self._always, -1
        sys.stdout.flush()

    def several(self) -> None:
        """The answer is a list, also where nothing is in it."""
        self._items = max(self._items, 0)

    def item(self, data: Any, text: Any = "") -> None:
        """One more thing of a list; `text` is what people see of it."""
        self.several()
        if self.json:
            sys.stdout.write(("[" if self._items == 0 else ",") + render.as_json(data))
        else:
            self.say(text)
        self._items += 1

    def show(self, data: Any, text: Any) -> None:
        """The whole answer."""
        if self.json:
            sys.stdout.write(render.as_json(data) + "\n")
        else:
            self.say(text)

    def say(self, text: Any) -> None:
        """Text for people, beside the answer; nothing with JSON."""
        if not self.json and text != "":
            self.out.print(text, soft_wrap=isinstance(text, str))

    def complain(self, error: GogglesError) -> None:
        """One error."""
        if self.json:
            data = {"code": error.code, "message": error.message, "hint": error.hint}
            sys.stderr.write(render.as_json(data) + "\n")
            return
        text = safe(error.message) + (f" ({safe(error.hint)})" if error.hint else "")
        self.err.print(text, style="red", soft_wrap=True)
