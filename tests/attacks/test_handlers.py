"""rpyc's own doors: what its protocol offers beside calling a method, tried on a nameserver and on a storage."""

from __future__ import annotations

from typing import Any

import pytest
from tests.attacks import hostile as h
from tests.attacks.conftest import calls
from tests.attacks.hostile import Calls, Refused, box

from goggles.client.session import Session
from goggles.testing.cluster import Cluster

PLACES = ["", "alice"]
DUNDERS = [
    "__class__",
    "__init__",
    "__dict__",
    "__globals__",
    "__reduce_ex__",
    "__getattribute__",
    "__call__",
    "__doc__",
]
INNER = ["caller", "_owners", "_desks", "exposed_methods", "_rpyc_getattr", "____conn__", "____id_pack__", "_session"]
CLAIMS = [
    "builtins.str",
    "builtins.bytes",
    "builtins.tuple",
    "builtins.int",
    "os.system",
    "subprocess.Popen",
    "",
    "x" * 999,
]


@pytest.fixture(params=PLACES, ids=["nameserver", "storage"])
def line(request: pytest.FixtureRequest, site: Cluster, fs: Session) -> Any:
    with calls(site, at=request.param) as made:
        yield made


def still_serves(line: Calls) -> bool:
    return bool(line.value("health")[0] == "well")


@pytest.mark.parametrize("name", [*DUNDERS, *INNER, b"__class__", 5, None, ("x",)])
def test_nothing_of_the_service_can_be_reached_but_its_methods(line: Calls, name: Any) -> None:
    root = line.get_root()
    for ask in (
        lambda: line.ask(h.GETATTR, root, box(name)),
        lambda: line.ask(h.CALLATTR, root, box(name), box(()), box(())),
        lambda: line.ask(h.METHOD, box(name), box(()), box(())),
        lambda: line.ask(h.GETATTR, line.reference(h.GETATTR, root, box("health")), box(name)),
    ):
        with pytest.raises(Refused) as error:
            ask()
        assert error.value.code == "denied"
    assert still_serves(line)


HANDLERS = [
    (h.DELATTR, (box("health"),)),
    (h.SETATTR, (box("health"), box(1))),
    (h.REPR, ()),
    (h.STR, ()),
    (h.HASH, ()),
    (h.DIR, ()),
    (h.CMP, (box(1), box("__class__"))),
    (h.PICKLE, (box(2),)),
    (h.BUFFITER, (box(10),)),
    (h.OLDSLICING, (box("a"), box("b"), box(0), box(1), box(()))),
    (h.INSTANCECHECK, (box(("builtins.object", 1, 0)),)),
    (h.CTXEXIT, (box(None),)),
    (h.CTXEXIT, (box("not an exception"),)),
    (h.CALL, (box(()), box(()))),
    (h.METHOD, ()),
    (h.METHOD, (box(()), box(()))),
    (h.METHOD + 1, ()),
    (0, ()),
    (21, ()),
    (-1, ()),
    (1 << 40, ()),
    ("getattr", ()),
    (None, ()),
    ((), ()),
]


@pytest.mark.parametrize(("handler", "more"), HANDLERS, ids=lambda value: str(value)[:30])
def test_other_doors_of_the_protocol_are_shut(line: Calls, handler: Any, more: tuple[Any, ...]) -> None:
    with pytest.raises(Refused) as error:
        line.ask(handler, line.get_root(), *more)
    assert error.value.code == "denied"
    assert still_serves(line)


@pytest.mark.parametrize(
    "given",
    [
        ("health",),
        ("health", ()),
        ("health", 5, ()),
        ("health", (), 5),
        ("health", (), (("name",),)),
        ("health", (), ((1, 2),)),
        ("health", (), (("self", 1),)),
        ("health", ("too", "many"), ()),
        ("health", (), (), ()),
        (("health",), (), ()),
    ],
    ids=str,
)
def test_the_short_way_to_a_method_takes_its_name_and_its_arguments(line: Calls, given: tuple[Any, ...]) -> None:
    assert h.unbox(line.ask(h.METHOD, box("health"), box(()), box(())))[0] == "well"
    for boxed in ([box(one) for one in given], [box(given)]):
        with pytest.raises(Refused) as error:
            line.ask(h.METHOD, *boxed)
        assert error.value.code in ("denied", "bad_request")
    assert still_serves(line)


@pytest.mark.parametrize("value", ["text", b"bytes", 5, (), None, True, 1.5], ids=repr)
def test_values_have_no_doors_either(line: Calls, value: Any) -> None:
    for handler, more in [(h.GETATTR, (box("__class__"),)), (h.CALLATTR, (box("join"), box(()))), (h.CALL, (box(()),))]:
        with pytest.raises(Refused) as error:
            line.ask(handler, box(value), *more)
        assert error.value.code == "denied"
    for handler in (h.DEL, h.INSPECT):
        with pytest.raises(Refused) as error:
            line.ask(handler, box(value))
        assert error.value.code == "denied"


def test_what_was_not_handed_out_can_not_be_named(line: Calls) -> None:
    kind, number, which = line.get_root()[1]
    guesses = [(kind, number, which + step) for step in (-16, 16, 1 << 20)]
    guesses += [(kind, number, 0), ("builtins.type", number, 0), ("os", 1, 2), ("", 0, 0), (kind, -1, -1)]
    for guess in guesses:
        for handler, more in [(h.GETATTR, (box("health"),)), (h.CALL, (box(()),)), (h.DEL, ()), (h.STR, ())]:
            with pytest.raises(Refused) as error:
                line.ask(handler, (h.LOCAL, guess), *more)
            assert error.value.code == "denied"
        with pytest.raises(Refused) as error:
            line.ask(h.INSPECT, box(guess))
        assert error.value.code == "denied"


@pytest.mark.parametrize("count", [1, -5, 0, 1 << 62, -(1 << 62), "1", None, 1.5])
def test_who_counts_references_wrongly_loses_only_their_own(site: Cluster, line: Calls, count: Any) -> None:
    with calls(site, "honest") as other:
        assert other.value("health")[0] == "well"
        try:
            line.ask(h.DEL, line.get_root(), box(count))
            line.ask(h.DEL, line.get_root(), box(1 << 40))
        except Refused as error:
            assert error.code == "denied"
        assert other.value("health")[0] == "well"
    line.root = None
    assert still_serves(line), "and whoever asks again gets the service again"


@pytest.mark.parametrize(
    "boxed",
    [
        (0, 1),
        (5, 1),
        (99, None),
        (1,),
        (1, 2, 3),
        (),
        5,
        None,
        "text",
        (h.TUPLE, 5),
        (h.TUPLE, (5,)),
        (h.LOCAL, 5),
        (h.LOCAL, ()),
        (h.LOCAL, ("x", "y", "z")),
        (h.REMOTE, 5),
        (h.REMOTE, (1, 2, 3)),
        ((), ()),
    ],
    ids=repr,
)
def test_values_that_are_packed_wrongly_are_refused(line: Calls, boxed: Any) -> None:
    with pytest.raises(Refused) as error:
        line.ask(h.GETATTR, boxed, box("health"))
    assert error.value.code in ("denied", "protocol")
    assert still_serves(line)


@pytest.mark.parametrize("message", [5, (), (1,), (1, 2, 3), "text", None], ids=repr)
@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, 255])
def test_a_message_that_is_none_ends_its_own_connection(site: Cluster, kind: int, message: Any, fs: Session) -> None:
    with calls(site) as line:
        line.message(kind, message)
        assert line.ended(10)
    assert fs.read("/kept")


@pytest.mark.parametrize(
    ("kind", "values"),
    [(h.REPLY, [box(1), (h.TUPLE, ())]), (h.EXCEPTION, [box(1), (("a", "b"), (), (), ""), 5, None])],
)
def test_answers_to_what_was_not_asked_are_forgotten(line: Calls, kind: int, values: list[Any]) -> None:
    for value in values:
        line.message(kind, (12345, value))
    assert still_serves(line)


# --- objects by reference --------------------------------------------------------------------


def serve(line: Calls, number: int, answers: Any) -> Any:
    """What the other side answers to request `number`; its own requests are answered by `answers(handler, args)`."""
    while True:
        kind, which, value = line.receive()
        if kind == h.REQUEST:
            try:
                line.message(h.REPLY, (which, answers(*value)))
            except StopIteration:
                line.message(h.EXCEPTION, (which, (("builtins", "OSError"), ("no",), (), "")))
        elif which == number:
            if kind == h.EXCEPTION:
                facts = dict(value[2])
                raise Refused(facts["code"], facts["message"])
            return value


@pytest.mark.parametrize("claim", CLAIMS)
def test_an_object_in_the_place_of_a_value_is_refused_whatever_it_says_it_is(site: Cluster, claim: str) -> None:
    reference = (h.REMOTE, (claim, 5, 6))
    for at, method, args in [
        ("", "stat", (reference,)),
        ("", "stat_many", ((h.TUPLE, (reference,)),)),
        ("alice", "open", (reference, box("rb"))),
        ("alice", "open", (box("/kept"), reference)),
        ("alice", "open", ((h.TUPLE, (reference,)),)),
        ("alice", "write_fileobj", (reference, box(b"bytes"))),
    ]:
        asked: list[Any] = []

        def answers(handler: int, args: Any, asked: list[Any] = asked) -> Any:
            asked.append(handler)
            return box(())

        with calls(site, at=at) as line:
            number = line.send(h.CALLATTR, line.get_root(), box(method), (h.TUPLE, args), box(()))
            with pytest.raises(Refused) as error:
                serve(line, number, answers)
        assert error.value.code in ("denied", "bad_request")
        assert set(asked) <= {h.DEL}, "nobody looks into an object to see what it is"


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("piece", [box("text"), box(5), box(None), (h.REMOTE, ("builtins.bytes", 7, 8))], ids=repr)
def test_a_file_object_that_gives_no_bytes_is_refused(site: Cluster, fs: Session, claim: str, piece: Any) -> None:
    def answers(handler: int, args: Any) -> Any:
        return (h.REMOTE, ("x.method", 9, 10)) if handler == h.GETATTR else piece if handler == h.CALL else box(None)

    with calls(site, at="alice") as line:
        args = (h.TUPLE, (box("/new"), (h.REMOTE, (claim, 5, 6))))
        number = line.send(h.CALLATTR, line.get_root(), box("write_fileobj"), args, box(()))
        with pytest.raises(Refused) as error:
            serve(line, number, answers)
    assert error.value.code == "bad_request"


def test_requests_within_requests_have_an_end(site: Cluster, fs: Session) -> None:
    """Each read of the file object is answered with another write."""
    kind, depth = h.REQUEST, 0
    with calls(site, at="alice") as line:
        args = (h.TUPLE, (box("/new"), (h.REMOTE, ("x", 5, 6))))
        while kind == h.REQUEST:
            line.send(h.CALLATTR, line.get_root(), box("write_fileobj"), args, box(()))
            kind, depth = line.receive()[0], depth + 1
    assert (kind, depth) == (h.EXCEPTION, 9)
    with calls(site, at="alice") as line:
        assert still_serves(line)


def test_of_a_file_object_only_reading_can_be_reached(site: Cluster, fs: Session) -> None:
    holder = next(name for name in fs.locations("/kept"))
    with calls(site, at=holder) as line:
        file = (h.LOCAL, line.call("open", "/kept")[1])
        for name in ["_file", "write", "truncate", "fileno", "name", "raw", *DUNDERS]:
            with pytest.raises(Refused) as error:
                line.ask(h.CALLATTR, file, box(name), box(()), box(()))
            assert error.value.code == "denied"
        for args in [(-1,), (10, 5), (1 << 70,), ("x",), (None,)]:
            with pytest.raises(Refused) as error:
                line.ask(h.CALLATTR, file, box("seek"), box(args), box(()))
            assert error.value.code in ("bad_request", "denied")
        line.ask(h.CALLATTR, file, box("seek"), box((0,)), box(()))
        assert line.ask(h.CALLATTR, file, box("read"), box((1 << 62,)), box(())) == (h.VALUE, b"kept")
