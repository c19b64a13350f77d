"""Ports for servers that are yet to start."""

import itertools
import random
import socket

# Below what systems hand out to outgoing connections (from 32768 on Linux, from 49152 by RFC 6335): such a
# connection may take a port at any time before its server listens, or while that server restarts.
_RANGE = range(15_000, 32_768)
# What other processes are about to start on cannot be seen, so each begins somewhere else.
_candidates = itertools.islice(itertools.cycle(_RANGE), random.randrange(len(_RANGE)), None)


def free_port() -> int:
    """A loopback port that nobody listens on, and that this process has not been given lately.

    Raises:
        OSError: Every port of the range is taken.
    """
    for port in itertools.islice(_candidates, len(_RANGE)):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise OSError(f"no free port between {_RANGE.start} and {_RANGE.stop - 1} on 127.0.0.1")
