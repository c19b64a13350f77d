"""`orderplane dlq`: list, show and replay dead letters."""

from collections import deque
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from orderplane.adapters.kafka.topics import read_all
from orderplane.adapters.postgres.pool import open_pool
from orderplane.cli import documents
from orderplane.cli.console import AsJson, console, fail, need, run
from orderplane.cli.documents import print_json
from orderplane.cli.exit_codes import NOT_FOUND
from orderplane.events.dead_letters import DEAD_LETTER_TOPIC, DeadLetter, parse_dead_letter
from orderplane.workers.notifier.replay import Replayed, Verdict, replay
from orderplane.workers.notifier.store import NotificationStore

app = typer.Typer(help="Dead letters: messages that could not be processed or sent.", no_args_is_help=True)


@app.command("list")
def list_command(
    last: Annotated[int, typer.Option(min=1, help="How many of the newest.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List dead letters, the newest last.

    Example:

        orderplane dlq list --last 20
    """
    letters = run(_read(last))
    if as_json:
        print_json(documents.DeadLetters(tuple(_document(number, letter) for number, letter in letters)))
        return
    table = Table("number", "reason", "topic", "channel", "event", "detail")
    for number, letter in letters:
        table.add_row(
            str(number), letter.reason, letter.topic, letter.channel or "", letter.event_id or "",
            escape(letter.detail),
        )  # fmt: skip
    console.print(table if letters else "No dead letters.")


@app.command("show")
def show_command(
    number: Annotated[int, typer.Argument(min=0, help="The number in `dlq list`.")], as_json: AsJson = False
) -> None:
    """Show one dead letter: its reason, its origin, and the original record.

    Example:

        orderplane dlq show 4
    """
    letter = _wanted(run(_read(None)), [number])[number]
    document = documents.DeadLetterRecord(
        **dict(_document(number, letter)),
        key=_text(letter.key),
        headers={name: _text(value) for name, value in letter.headers},
        value=_text(letter.value),
    )
    if as_json:
        print_json(document)
        return
    for name, value in document.model_dump(by_alias=True).items():
        console.print(f"{name:<10}{_printable(value)}", markup=False, soft_wrap=True)


@app.command("replay")
def replay_command(
    numbers: Annotated[list[int], typer.Argument(min=0, help="The numbers in `dlq list`.")],
    force: Annotated[
        bool, typer.Option("--force", help="Also if a later message of the order was sent.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Process dead letters again; exit code 1 if one failed again.

    Doing it twice sends once. A message older than the last one that was sent of its order is not sent but
    marked superseded, unless forced.

    Examples:

        orderplane dlq replay 4 5

        orderplane dlq replay 4 --force
    """
    letters = _wanted(run(_read(None)), numbers)
    done = run(_replay(letters, force))
    if as_json:
        print_json(documents.Replay(tuple(_outcome(number, result) for number, result in done.items())))
    else:
        for number, result in done.items():
            console.print(f"{number}: {result.verdict}; {result.detail}", markup=False, soft_wrap=True)
    raise typer.Exit(int(any(result.verdict is Verdict.DEAD for result in done.values())))


async def _read(last: int | None) -> list[tuple[int, DeadLetter]]:
    kept: deque[tuple[int, DeadLetter]] = deque(maxlen=last)
    async for record in read_all(need("ORDERPLANE_KAFKA"), topics=(DEAD_LETTER_TOPIC,)):
        kept.append((record.offset, parse_dead_letter(record)))
    return list(kept)


async def _replay(letters: dict[int, DeadLetter], is_forced: bool) -> dict[int, Replayed]:
    pool = await open_pool(need("ORDERPLANE_POSTGRES_DSN"), size=2)
    try:
        store = NotificationStore(pool)
        return {
            number: await replay(letter, store, is_forced=is_forced) for number, letter in letters.items()
        }
    finally:
        await pool.close()


def _wanted(letters: list[tuple[int, DeadLetter]], numbers: list[int]) -> dict[int, DeadLetter]:
    known = dict(letters)
    if missing := [str(number) for number in numbers if number not in known]:
        fail(f"No dead letter {', '.join(missing)}; see `orderplane dlq list`.", code=NOT_FOUND)
    return {number: known[number] for number in numbers}


def _document(number: int, letter: DeadLetter) -> documents.DeadLetter:
    return documents.DeadLetter(
        number=number,
        reason=letter.reason,
        detail=letter.detail,
        consumer=letter.consumer,
        channel=letter.channel,
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.offset,
        event_id=letter.event_id,
    )


def _outcome(number: int, result: Replayed) -> documents.ReplayedLetter:
    return documents.ReplayedLetter(
        number=number,
        verdict=result.verdict.value,
        detail=result.detail,
        states={channel.value: state.value for channel, state in result.states.items()},
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")


def _printable(value: object) -> str:
    """The text without characters that a terminal obeys: anybody may have written the record."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))
