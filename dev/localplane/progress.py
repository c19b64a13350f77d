"""Progress of slow steps, on a terminal or in a log."""

import time
from typing import Protocol

from rich.console import Console


class Progress(Protocol):
    """Shows progress."""

    def step(self, text: str) -> "Step":
        """Begin a step that may take long."""
        ...

    def note(self, text: str) -> None:
        """Print one line."""
        ...


class Step(Protocol):
    """One step; a context manager."""

    def __enter__(self) -> "Step": ...
    def __exit__(self, kind: object, *_: object) -> None: ...

    def update(self, text: str) -> None:
        """Report how far the step is."""
        ...


class ConsoleProgress:
    """A spinner with the seconds on a terminal; a line every ten seconds elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

    def note(self, text: str) -> None:
        """Print one line."""
        self._console.print(text, highlight=False)

    def step(self, text: str) -> "Step":
        """Begin a step that may take long."""
        if self._console.is_terminal:
            return _Spinner(self._console, text)
        return _Lines(self._console, text)


class _Spinner:
    def __init__(self, console: Console, text: str) -> None:
        self._console, self._text, self._started = console, text, time.monotonic()
        self._status = console.status(text)

    def __enter__(self) -> "_Spinner":
        self._status.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._status.stop()
        mark = "[green]ok[/]" if kind is None else "[red]failed[/]"
        self._console.print(
            f"{mark} {self._text} ({time.monotonic() - self._started:.1f} s)", highlight=False
        )

    def update(self, text: str) -> None:
        self._status.update(f"{self._text}: {text} ({time.monotonic() - self._started:.0f} s)")


class _Lines:
    """One line every `_PERIOD` seconds, for logs."""

    _PERIOD = 10.0

    def __init__(self, console: Console, text: str) -> None:
        self._console, self._text, self._started = console, text, time.monotonic()
        self._said = self._started

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        mark = "ok" if kind is None else "failed"
        seconds = time.monotonic() - self._started
        self._console.print(f"{mark} {self._text} ({seconds:.1f} s)", highlight=False, soft_wrap=True)

    def update(self, text: str) -> None:
        now = time.monotonic()
        if now - self._said >= self._PERIOD:
            self._said = now
            line = f"... {self._text}: {text} ({now - self._started:.0f} s)"
            self._console.print(line, highlight=False, soft_wrap=True)
