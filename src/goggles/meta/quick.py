"""SQLite without the way through SQLAlchemy: transactions, and the statements that are known before they run.

Law: SQLAlchemy writes the SQL, once for each statement; the driver runs it.  A statement that is not known, or that has
columns which SQLAlchemy would convert, goes through SQLAlchemy, in the same transaction.  PostgreSQL has none of this.

Why: a row by its key takes 5 microseconds of the driver and 25 more of SQLAlchemy; a transaction 10 and 50 more.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import deque, namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from typing import Any, cast

from sqlalchemy import Connection, Engine, Executable, Float
from sqlalchemy.dialects.sqlite import pysqlite
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.sql.compiler import SQLCompiler

DIALECT = pysqlite.dialect()
Values = Mapping[str, Any]


class Known:
    """One statement, and its SQL for each set of columns that it was given."""

    def __init__(self, statement: Any) -> None:
        self.statement = statement
        self._inserts = bool(statement.is_insert)
        self._plans: dict[tuple[str, ...], Plan | None] = {}

    def plan(self, parameters: Values) -> Plan | None:
        """None where the driver alone can not run it."""
        keys = tuple(parameters) if self._inserts else ()
        try:
            return self._plans[keys]
        except KeyError:
            compiled = self.statement.compile(dialect=DIALECT, column_keys=list(keys) or None)
            made = self._plans[keys] = Plan(compiled) if _is_plain(compiled) else None
            return made


class Plan:
    """SQL with its parameters in order; lists of values are spelled out when their length is known."""

    def __init__(self, compiled: SQLCompiler) -> None:
        self._sql = str(compiled)
        self._order = list(compiled.positiontup or ())
        self._defaults = {key: value for key, value in compiled.params.items() if value is not None}
        self._lists = [name for name in self._order if f"__[POSTCOMPILE_{name}]" in self._sql]
        self._row: Callable[[Sequence[Any]], Any] | None = None

    def bind(self, parameters: Values) -> tuple[str, list[Any]]:
        if not self._lists and not self._defaults:
            return self._sql, [parameters[name] for name in self._order]
        sql, values = self._sql, list[Any]()
        for name in self._order:
            value = parameters[name] if name in parameters else self._defaults[name]
            if name in self._lists:
                sql = sql.replace(f"__[POSTCOMPILE_{name}]", ",".join("?" * len(value)) or "NULL")
                values.extend(value)
            else:
                values.append(value)
        return sql, values

    def row(self, cursor: sqlite3.Cursor) -> Callable[[Sequence[Any]], Any]:
        """What makes a row with named columns of the driver's tuple."""
        if self._row is None:
            names = [column[0] for column in cursor.description or ()]
            self._row = namedtuple("Row", names, rename=True)._make  # type: ignore[attr-defined]  # mypy knows none of its fields
        return self._row


def _is_plain(compiled: SQLCompiler) -> bool:
    """Whether neither its parameters nor its columns are converted on their way.  Numbers that go into a column of
    floats are, but SQLite does so itself."""
    types = [bind.type.dialect_impl(DIALECT) for bind in compiled.binds.values() if not isinstance(bind.type, Float)]
    columns = [entry.type.dialect_impl(DIALECT) for entry in compiled._result_columns]
    return not any(kind.bind_processor(DIALECT) for kind in types) and not any(
        kind.result_processor(DIALECT, None) for kind in columns
    )


class Rows:
    """The answer of the driver, with the methods of SQLAlchemy's results that are used here."""

    __slots__ = ("_cursor", "_plan")

    def __init__(self, cursor: sqlite3.Cursor, plan: Plan) -> None:
        self._cursor = cursor
        self._plan = plan

    def __iter__(self) -> Iterator[Any]:
        return map(self._plan.row(self._cursor), self._cursor)

    def all(self) -> list[Any]:
        return list(self)

    def first(self) -> Any:
        found, make = self._cursor.fetchone(), self._plan.row(self._cursor)
        self._cursor.close()
        return None if found is None else make(found)

    def one(self) -> Any:
        (found,) = self.all()
        return found

    def scalar(self) -> Any:
        found = self._cursor.fetchone()
        self._cursor.close()
        return None if found is None else found[0]

    def scalars(self) -> Scalars:
        return Scalars(row[0] for row in self._cursor)

    @property
    def inserted_primary_key(self) -> tuple[int | None]:
        return (self._cursor.lastrowid,)

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount


def plain(rows: Any) -> Iterable[Any]:
    """The same rows, as plain tuples where that saves time: for those whose columns are known by their order."""
    return rows._cursor if isinstance(rows, Rows) else rows


def first(rows: Any) -> Any:
    """The first row, likewise; None where there is none."""
    if not isinstance(rows, Rows):
        return rows.first()
    found = rows._cursor.fetchone()
    rows._cursor.close()
    return found


class Scalars:
    """The first column of each row."""

    def __init__(self, values: Iterator[Any]) -> None:
        self._values = values

    def __iter__(self) -> Iterator[Any]:
        return self._values

    def all(self) -> list[Any]:
        return list(self._values)


_KNOWN: dict[int, Known] = {}  # by the identity of the statement, which `Known` keeps alive


def remember(names: Mapping[str, object]) -> None:
    """The statements among these (the globals of a module) may be run by the driver itself."""
    for value in names.values():
        if isinstance(value, Executable):
            _KNOWN[id(value)] = Known(value)


def quick(connection: Connection) -> Connection:
    """The same connection (to SQLite), with its known statements run by the driver itself."""
    return cast(Connection, _Quick(connection))


class _Quick:
    """Stands in for a Connection, in its transaction."""

    __slots__ = ("_connection", "_driver")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: Any, parameters: Any = None, /) -> Any:
        """Its rows; `parameters` as SQLAlchemy takes them: a mapping, or a list of mappings."""
        known = _KNOWN.get(id(statement))
        if known is None:
            return self._connection.execute(statement, parameters)
        several = isinstance(parameters, list)
        plan = known.plan((parameters[0] if several else parameters) or {})
        if plan is None:
            return self._connection.execute(statement, parameters)
        if several:
            bound = [plan.bind(each) for each in parameters]
            return Rows(self._driver.executemany(bound[0][0], [values for _, values in bound]), plan)
        return Rows(self._driver.execute(*plan.bind(parameters or {})), plan)


class Transactions:
    """Transactions on a few kept connections of one engine.

    `most`: as many as the pool of the engine gives; others wait for `timeout` seconds, then PoolTimeout."""

    def __init__(self, engine: Engine, begin: str, most: int, timeout: float) -> None:
        self._engine = engine
        self._begin = begin
        self._timeout = timeout
        self._turns: SimpleQueue[None] = SimpleQueue()  # as a semaphore, in a tenth of the time
        for _ in range(most):
            self._turns.put(None)
        self._idle: deque[Connection] = deque()  # taken and given back at the same end

    def __call__(self) -> AbstractContextManager[Connection]:
        """A transaction that is committed at the end of the block."""
        return _Transaction(self, self._begin)

    def glance(self) -> AbstractContextManager[Connection]:
        """For one statement that changes nothing: a transaction of its own, which nobody has to begin or to end."""
        return _Transaction(self, "")

    def begin(self, how: str) -> Connection:
        try:
            self._turns.get(timeout=self._timeout)
        except Empty:
            raise PoolTimeout(f"no connection was free within {self._timeout:g} s") from None
        connection = None
        try:
            connection = self._take()
            if how:
                connection.connection.driver_connection.execute(how)  # type: ignore[union-attr]
            return connection
        except BaseException:
            self.undo(connection)
            raise

    def commit(self, connection: Connection, how: str) -> None:
        try:
            if connection.in_transaction():  # SQLAlchemy ran statements too, and knows of a transaction
                connection.commit()
            elif how:
                connection.connection.driver_connection.commit()  # type: ignore[union-attr]
        except BaseException:
            self.undo(connection)
            raise
        self._idle.append(connection)
        self._turns.put(None)

    def _take(self) -> Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self._engine.connect()

    def undo(self, connection: Connection | None) -> None:
        """Roll back; back in the pool of the engine, where a connection that is no good any more is replaced."""
        try:
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    cast(sqlite3.Connection, connection.connection.driver_connection).rollback()
                connection.close()
        finally:
            self._turns.put(None)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


class _Transaction(AbstractContextManager[Connection]):
    """One block of `Transactions`; a class, because each generator on the way of a `stat` costs it a hundredth."""

    __slots__ = ("_connection", "_how", "_owner")
    _connection: Connection

    def __init__(self, owner: Transactions, how: str) -> None:
        self._owner = owner
        self._how = how

    def __enter__(self) -> Connection:
        self._connection = self._owner.begin(self._how)
        return self._connection

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._owner.commit(self._connection, self._how)
        else:
            self._owner.undo(self._connection)
