"""What a server exposes, to whom, and with what arguments.

Law: a method without a declaration can not be called.  The declaration (`@exposed`) names the roles and the
least level; the annotations of the method say which values it takes.  Both are checked here, once, before
the method runs, so that no method sees a caller or a value it did not ask for.
"""

from __future__ import annotations

import inspect
import logging
import math
import time
import typing
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from goggles.errors import BadRequest, GogglesError, LimitExceeded, PermissionDenied
from goggles.paths import show
from goggles.pki.identity import Identity
from goggles.roles import Level, Role
from goggles.wire import faults

log = logging.getLogger(__name__)
F = TypeVar("F", bound=Callable[..., Any])

USERS = (Role.CLIENT, Role.ADMIN)
MAX_TEXT = 16_384  # a path of 4,096 bytes, escaped, and some
MAX_BYTES = 4 << 20
MAX_ITEMS = 10_000


@dataclass(eq=False, slots=True)
class Caller:
    """Who is at the other end of a connection, and what the account of that name allows now.

    `account`: the user name of a log-in.  `busy`: requests of theirs that are under way, until the answer is sent; a
    server that stops lets those finish."""

    identity: Identity
    address: str
    level: Callable[[], Level]
    busy: int = 0
    account: str = ""

    def __str__(self) -> str:
        return f"{self.identity} at {self.address}"


@dataclass(frozen=True, slots=True)
class Declaration:
    roles: frozenset[Role]
    level: Level


def exposed(*roles: Role, level: Level = Level.NONE) -> Callable[[F], F]:
    """Declare that principals of these roles and at least this level may call the method."""

    def mark(function: F) -> F:
        function.__declaration__ = Declaration(frozenset(roles), level)  # type: ignore[attr-defined]
        return function

    return mark


class Service:
    """Base of what a server hands to a connection: one instance per connection, `caller` at its other end."""

    exposed_methods: ClassVar[dict[str, Method]] = {}

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.gate: AbstractContextManager[None] = nullcontext()  # each request passes it

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.exposed_methods = {}
        for base in reversed(cls.__mro__[1:]):
            cls.exposed_methods |= getattr(base, "exposed_methods", {})
        for name, function in vars(cls).items():
            if hasattr(function, "__declaration__"):
                cls.exposed_methods[name] = Method(name, function)

    def _rpyc_getattr(self, name: str) -> Any:
        method = self.exposed_methods.get(name.removeprefix("exposed_"))
        if method is None:
            raise PermissionDenied(f"there is no method {show(name[:100])} here")
        return Bound(self, method)

    def on_connect(self, connection: Any) -> None:
        """Called when the connection stands."""

    def on_disconnect(self, connection: Any) -> None:
        """Called once when the connection is gone."""


class Method:
    """One exposed method with its declaration and the types of its parameters."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self.function = function
        self.declaration: Declaration = function.__declaration__  # type: ignore[attr-defined]
        self.signature = inspect.signature(function)
        hints = typing.get_type_hints(function)
        parameters = list(self.signature.parameters.values())[1:]
        self.types = {each.name: _classes(hints.get(each.name, Any)) for each in parameters}
        self._said = {each: f"{name}: {each}" for each in self.types}
        self._least = sum(each.default is each.empty for each in parameters)

    def admit(self, caller: Caller) -> None:
        """Raise PermissionDenied unless this caller may call this method now."""
        if caller.identity.role not in self.declaration.roles:
            raise PermissionDenied(
                f"{caller.identity} may not call {self.name}",
                "it is for: " + ", ".join(sorted(self.declaration.roles)),
            )
        if self.declaration.level > caller.level():
            raise PermissionDenied(
                f"{caller.identity} needs level {self.declaration.level.name} for {self.name}",
                f"the account {caller.account or caller.identity.name} has {caller.level().name}; "
                "an administrator there can change it: librarian update-user",
            )

    def check(self, service: Service, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise BadRequest or LimitExceeded where these are not arguments that the method takes."""
        if not kwargs and self._least <= len(args) <= len(self.types):
            given: Iterable[tuple[str, Any]] = zip(self.types, args, strict=False)
        else:
            given = self._by_name(service, args, kwargs)
        for name, value in given:
            check_value(self._said[name], value, self.types[name])

    def _by_name(self, service: Service, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterable[tuple[str, Any]]:
        try:
            return list(self.signature.bind(service, *args, **kwargs).arguments.items())[1:]
        except TypeError as error:
            raise BadRequest(f"{self.name}: {error}", f"call it as {self.name}{self._usage()}") from None

    def _usage(self) -> str:
        return "(" + ", ".join(str(p) for p in list(self.signature.parameters.values())[1:]) + ")"


class Bound:
    """A method of one service, ready to be called from the other side; nothing else of it can be reached."""

    __slots__ = ("_method", "_service")

    def __init__(self, service: Service, method: Method) -> None:
        self._service = service
        self._method = method

    def _rpyc_getattr(self, name: str) -> Any:
        raise PermissionDenied("a method can only be called")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        method, service = self._method, self._service
        if not log.isEnabledFor(logging.DEBUG):
            return self._run(method, service, args, kwargs)
        started = time.perf_counter()
        try:
            return self._run(method, service, args, kwargs)
        except GogglesError as error:
            log.debug("%s for %s: %s", method.name, service.caller, error)
            raise
        finally:
            log.debug("%s for %s took %.1f ms", method.name, service.caller, 1e3 * (time.perf_counter() - started))

    def _run(self, method: Method, service: Service, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            method.admit(service.caller)
            method.check(service, args, kwargs)
            with service.gate:
                return method.function(service, *args, **kwargs)
        except (GogglesError, EOFError):  # EOFError: the caller is gone; its connection ends
            raise
        except Exception as error:
            raise faults.known(error, f"{method.name} for {service.caller}") from error


def _classes(kind: Any) -> tuple[type, ...] | None:
    """What values of an annotation are instances of; None for Any (a file object).

    `kind`: str, int, float, bool, bytes, tuple, a union of them, or Any."""
    if kind is Any:
        return None
    several = (kind,) if typing.get_origin(kind) is tuple else typing.get_args(kind) or (kind,)
    classes = tuple(typing.get_origin(each) or each for each in several)
    return (*classes, int) if float in classes else classes


_FIELDS: dict[type, dict[str, tuple[type, ...] | None]] = {}


def types_of(record: type) -> dict[str, tuple[type, ...] | None]:
    """The classes of each field of a record."""
    if record not in _FIELDS:
        _FIELDS[record] = {name: _classes(kind) for name, kind in typing.get_type_hints(record).items()}
    return _FIELDS[record]


def check_value(what: str, value: Any, allowed: tuple[type, ...] | None) -> None:
    """Raise BadRequest or LimitExceeded unless `value` is of one of these classes (None: any) and within bounds."""
    if allowed is None:
        return
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        names = " or ".join(sorted({"None" if a is type(None) else a.__name__ for a in allowed}))
        raise BadRequest(f"{what} must be {names}, not {type(value).__name__}")
    _check_size(what, value)


_LIMITS: dict[type, int] = {str: MAX_TEXT, bytes: MAX_BYTES, tuple: MAX_ITEMS}
_VALUES = frozenset((str, bytes, bool, type(None)))


def _check_size(what: str, value: Any) -> None:
    """The same bounds for what is within a tuple."""
    kind = type(value)
    limit = _LIMITS.get(kind)
    if limit is not None:
        if len(value) > limit:
            raise LimitExceeded(f"{what} may have {limit} items or characters, this has {len(value)}")
        if kind is tuple:
            for one in value:
                _check_size(what, one)
    elif kind is int:
        if not -(1 << 63) <= value < 1 << 63:
            raise LimitExceeded(f"{what} does not fit into 64 bits")
    elif kind is float:
        if not math.isfinite(value):
            raise BadRequest(f"{what} must be a number, not {value}")
    elif kind not in _VALUES:
        raise BadRequest(f"{what} can only have values in it, not objects")
