"""What the programs say of themselves."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

from goggles.cli import certs, goggles
from goggles.cli.arguments import parser
from goggles.settings import PROGRAMS


def each(of: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield of
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                yield from each(one)


ALL = [one for top in (certs._parser(), goggles._parser(), *map(parser, PROGRAMS.values())) for one in each(top)]


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.prog)
def test_help_says_what_it_is_for(one: argparse.ArgumentParser):
    assert one.description
    assert all(action.help for action in one._actions if not isinstance(action, argparse._SubParsersAction))


def test_the_shell_says_what_its_exit_codes_mean():
    text = " ".join(parser(PROGRAMS["client"]).format_help().split())
    assert "Exit codes: 0 all went well; 1 a command failed; 2 " in text
    assert "vg -c help lists the commands" in text
