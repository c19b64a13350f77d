"""The exit codes of every command. docs/cli.md has the same table; a test compares them."""

DONE, REFUSED, WRONG_USAGE, LOG_IN_FIRST, NOT_FOUND, TRY_LATER, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

MEANINGS = {
    DONE: "done",
    REFUSED: "refused, or what was looked for is not as it should be",
    WRONG_USAGE: "wrong usage, or a setting is missing",
    LOG_IN_FIRST: "log in first",
    NOT_FOUND: "not found",
    TRY_LATER: "try again later: something gave no answer, or the time is over",
    INTERRUPTED: "interrupted by Ctrl-C",
}

IN_SHORT = "Exit codes: 0 done, 1 refused, 2 wrong usage, 3 log in first, 4 not found, 5 try again later."
