"""What a run says while it goes on: a line a stage; details pass by on a terminal and are kept by --verbose alone."""

import logging
import shutil
import sys
import time
from typing import TextIO

_SILENT_SECONDS = 60.0


class Console(logging.Handler):
    """Writes lines to a stream. Details, records below INFO, are written only where `verbose`.

    Elsewhere a terminal shows the last detail in one line that the next one overwrites; what is no terminal, as a log
    file, gets the last detail once nothing was written for a minute, so that nobody takes long work for dead.
    """

    def __init__(self, stream: TextIO = sys.stderr, verbose: bool = False) -> None:
        super().__init__()
        self._stream, self._verbose = stream, verbose
        self._passing, self._written = False, time.monotonic()
        self.setFormatter(logging.Formatter("%(message)s"))  # else basicConfig sets one with level and logger

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or let it pass by."""
        line = f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {self.format(record)}"
        detail = record.levelno < logging.INFO and not self._verbose
        silent = time.monotonic() - self._written > _SILENT_SECONDS
        try:
            if detail and self._stream.isatty():
                self._pass_by(line)
            elif not detail or silent:
                self._write(line)
        except (OSError, ValueError):  # a stream that is gone must not end a run
            pass

    def clear(self) -> None:
        """Leave the terminal's line empty, for somebody else's words."""
        if self._passing:
            self._stream.write("\r\033[K")
            self._stream.flush()
            self._passing = False

    def close(self) -> None:
        """Leave nothing passing by behind."""
        self.clear()
        super().close()

    def _write(self, line: str) -> None:
        self._stream.write(f"\r\033[K{line}\n" if self._passing else f"{line}\n")
        self._stream.flush()
        self._passing, self._written = False, time.monotonic()

    def _pass_by(self, line: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r\033[K{line[:width]}")
        self._stream.flush()
        self._passing = True


def clear() -> None:
    """Let what passes by on the terminal make room for what a command prints."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, Console):
            handler.clear()
