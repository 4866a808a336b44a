"""What is owed and what is surplus, case by case and against random copies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goggles.nameserver.replication import Copy, Standing, assess

LIVE, GRACE, GONE, LEAVING = Standing.LIVE, Standing.GRACE, Standing.GONE, Standing.LEAVING


def copies(*standings, zones=""):
    return [Copy(n, s, zones[n] if zones else "", n / 10) for n, s in enumerate(standings)]


@pytest.mark.parametrize(
    ("wanted", "standings", "missing", "surplus"),
    [
        (2, (LIVE, LIVE), 0, ()),
        (2, (LIVE,), 1, ()),
        (2, (), 2, ()),
        (2, (LIVE, LIVE, LIVE), 0, (2,)),
        (2, (LIVE, GRACE), 1, ()),  # the last copy but one is at stake: nobody waits
        (3, (LIVE, LIVE, GRACE), 0, ()),  # time to come back
        (3, (LIVE, LIVE, GONE), 1, ()),
        (2, (GRACE, GRACE), 0, ()),
        (2, (LIVE, LIVE, GRACE), 0, ()),  # nothing is trimmed that is not connected
        (2, (LIVE, LEAVING), 1, ()),  # a drained storage keeps its copy until there is another
        (2, (LIVE, LIVE, LEAVING), 0, (2,)),
        (1, (LIVE, LIVE), 0, (1,)),
    ],
)
def test_cases(wanted, standings, missing, surplus):
    found = assess(wanted, copies(*standings))
    assert (found.missing, found.surplus) == (missing, surplus)


def test_copies_that_share_a_zone_are_given_up_first():
    assert assess(2, copies(LIVE, LIVE, LIVE, zones="abb")).surplus == (2,)
    assert assess(2, copies(LIVE, LIVE, LIVE, zones="aab")).surplus == (1,)


@given(st.integers(1, 5), st.lists(st.sampled_from(list(Standing)), max_size=8))
def test_trimming_never_leaves_too_few(wanted, standings):
    found = assess(wanted, copies(*standings))
    left = [s for n, s in enumerate(standings) if n not in found.surplus]
    assert not (found.missing and found.surplus)
    if found.surplus:
        assert left.count(LIVE) == wanted
    assert found.live == standings.count(LIVE)
