"""The site of the documents has every page."""

from __future__ import annotations

import re
from pathlib import Path

HOME = Path(__file__).resolve().parents[2]
DOCS = HOME / "docs"


def test_every_page_is_in_the_navigation_once() -> None:
    listed = re.findall(r": ([\w/-]+\.md)$", (HOME / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def test_a_link_that_leads_nowhere_ends_the_build() -> None:
    settings = (HOME / "mkdocs.yml").read_text("utf-8")
    assert "strict: true" in settings
    assert "anchors: warn" in settings
