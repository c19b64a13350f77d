"""Say what takes long, and for how long already."""

import time
from typing import Protocol

from rich.console import Console


class Progress(Protocol):
    """Somebody who shows what is going on."""

    def step(self, text: str) -> "Step":
        """Begin something that may take long."""
        ...

    def note(self, text: str) -> None:
        """Say one thing."""
        ...


class Step(Protocol):
    """One thing in hand; a context manager."""

    def __enter__(self) -> "Step": ...
    def __exit__(self, kind: object, *_: object) -> None: ...

    def update(self, text: str) -> None:
        """Say how far it is."""
        ...


class ConsoleProgress:
    """A spinner with the seconds on a terminal; a line now and then elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

    def note(self, text: str) -> None:
        """Say one thing."""
        self._console.print(text, highlight=False)

    def step(self, text: str) -> "Step":
        """Begin something that may take long."""
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
    """Every ten seconds a line: enough for a log, not too much for one."""

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
