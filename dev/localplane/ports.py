"""Free ports for servers that are about to start."""

import itertools
import random
import socket

# Below the ephemeral ports (from 32768 on Linux, from 49152 by RFC 6335): an outgoing connection could
# take one of those before the server listens, or while it restarts.
_RANGE = range(15_000, 32_768)
# Ports that another process has chosen but does not listen on yet cannot be seen, so each starts elsewhere.
_candidates = itertools.islice(itertools.cycle(_RANGE), random.randrange(len(_RANGE)), None)


def free_port() -> int:
    """A loopback port on which nothing listens, and which this function has not returned lately.

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
