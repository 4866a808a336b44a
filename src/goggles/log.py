r"""What processes say of themselves: one format for all of them, as text or as JSON.

    2026-11-21T06:05:09.123Z INFO     storage/alice [heartbeat] attached to the nameserver | epoch=3

Law: one record is one line (a traceback follows as lines that begin with "    | "); whatever is not printable is
escaped, so that no name from outside can look like a line of ours.  Nothing goes to standard output.  What a record
carries as `facts` says for machines what its message says for people: it stands in JSON only.
"""

from __future__ import annotations

import functools
import json
import logging
import logging.handlers
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from goggles.errors import SettingsError

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "facts"}


def setup(
    level: str = "info",
    file: Path | None = None,
    format: str = "text",  # noqa: A002 - the word of the setting
    process: str = "goggles",
    tracebacks: bool = True,
) -> logging.Handler:
    """Start logging to `file` (followed when it is rotated away) or standard error; the handler in use.

    `format` is text or json.  Libraries are heard from `warning` on, unless `level` is debug.  SettingsError where
    the file can not be written."""
    handler = _handler(file)
    handler.setFormatter(JsonFormat(process) if format == "json" else TextFormat(process, tracebacks))
    own = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger("goggles").setLevel(own)
    root = logging.getLogger()
    root.setLevel(own if own == logging.DEBUG else max(own, logging.WARNING))
    # It warns each time that a task is not over when its time comes again; such a task just goes on.
    logging.getLogger("apscheduler.scheduler").setLevel(logging.NOTSET if own == logging.DEBUG else logging.ERROR)
    for old in [h for h in root.handlers if isinstance(h, _Handler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    logging.captureWarnings(True)
    return handler


def tell_all(logger: logging.Logger, records: Sequence[logging.LogRecord]) -> None:
    """Records of this logger, which is enabled for them, in few writes."""
    alone = [handler for handler in logging.getLogger().handlers if isinstance(handler, _Handler)]
    if logger.filters or logger.handlers or alone != logging.getLogger().handlers:
        for record in records:
            logger.handle(record)
    else:
        for handler in alone:
            handler.emit_all(records)


def escape(text: str) -> str:
    r"""`text` in one line that no terminal stumbles over: what is not printable becomes \n, \x1b, \u2028..."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def uncaught(args: threading.ExceptHookArgs) -> None:
    """For `threading.excepthook`: a thread that dies is said in the log, not on the terminal."""
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        name = args.thread.name if args.thread else "?"
        logging.getLogger("goggles").critical("thread %s died: %s", name, args.exc_value, exc_info=args.exc_value)


class TextFormat(logging.Formatter):
    """time level process [thread] message | key=value ..."""

    def __init__(self, process: str, tracebacks: bool = True) -> None:
        super().__init__()
        self._process = escape(process)
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        head = f"{_time(record)} {record.levelname:<8} {self._process} [{escape(record.threadName or '-')}]"
        line = f"{head} {escape(record.getMessage())}{self._extras(record)}"
        trace = _traceback(self, record) if self._tracebacks else ""
        return "\n".join([line, *(f"    | {escape(part)}" for part in trace.split("\n") if part)])

    @staticmethod
    def _extras(record: logging.LogRecord) -> str:
        pairs = [f"{escape(key)}={_value(value)}" for key, value in _extras(record).items()]
        return f" | {' '.join(pairs)}" if pairs else ""


class JsonFormat(logging.Formatter):
    """One JSON object a line: time, level, process, thread, logger, message, what else the record carries."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname,
            "process": self._process,
            "thread": record.threadName,
            "logger": record.name,
            "message": record.getMessage(),
        }
        trace = _traceback(self, record)
        facts: dict[str, object] = getattr(record, "facts", {})
        entry = {**_extras(record), **facts, **entry, **({"traceback": trace} if trace else {})}
        return json.dumps(entry, default=str)


class _Handler(logging.StreamHandler):  # type: ignore[type-arg] # not generic at run time
    """Standard error, whatever it is at the moment."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def handleError(self, record: logging.LogRecord) -> None:
        _lost(record)

    def emit_all(self, records: Sequence[logging.LogRecord]) -> None:
        """Several lines in one write; where that fails, one by one, so that each is said to be lost or is there."""
        self.acquire()
        try:
            self._ready()
            self.stream.write("".join([self.format(record) + self.terminator for record in records]))
            self.flush()
        except Exception:  # noqa: BLE001 - `emit` finds out which line it was, and says that it was lost
            for record in records:
                self.emit(record)
        finally:
            self.release()

    def _ready(self) -> None:
        """Before something is written."""


class _FileHandler(logging.handlers.WatchedFileHandler, _Handler):
    """A file; a full disk costs log lines, never the program."""

    def __init__(self, file: Path) -> None:
        logging.handlers.WatchedFileHandler.__init__(self, file, encoding="utf-8", errors="backslashreplace")

    def _ready(self) -> None:
        self.reopenIfNeeded()
        if self.stream is None:
            self.stream = self._open()

    def close(self) -> None:
        try:
            super().close()
        except OSError:  # the last lines did not fit; each was said to be lost when it was written
            return


def _handler(file: Path | None) -> _Handler:
    if file is None:
        return _Handler()
    try:
        return _FileHandler(file)
    except OSError as error:
        raise SettingsError(
            f"the log {file} can not be written: {error.strerror}", "choose another --logfile"
        ) from error


def _lost(record: logging.LogRecord) -> None:
    """The last resort when a line could not be written: say so on standard error, and go on."""
    reason = escape(str(sys.exc_info()[1]))
    try:
        sys.stderr.write(f"a line of the log was lost ({record.name}, line {record.lineno}): {reason}\n")
    except (OSError, ValueError):  # standard error is gone as well: nobody is left to be told
        return


def _time(record: logging.LogRecord) -> str:
    second, rest = divmod(record.created, 1)
    return f"{_second(int(second))}.{int(rest * 1000):03}Z"


@functools.lru_cache(maxsize=4)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _OWN}


def _value(value: object) -> str:
    text = escape(str(value))
    return json.dumps(text, ensure_ascii=False) if not text or set(text) & set(' ="|') else text
