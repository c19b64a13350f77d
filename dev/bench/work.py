"""The work of the yardstick, as a program of its own: it prints what it took, as JSON.

It runs as a file, in a fresh process. So the figures do not depend on what its caller has in memory, and the
benchmark of another checkout does the same work. It needs only the standard library.
"""

import gc
import hashlib
import json
import sys
import time

ROUNDS = 40_000
"""About one second of a core of 2024."""

_LINES = 6


def work(rounds: int = ROUNDS) -> str:
    """Do what the processes of a shop do all day: make documents, write them, read them, hash them.

    Returns:
        A digest of all results, the same on each machine.
    """
    digest = hashlib.sha256()
    for number in range(rounds):
        order = {
            "id": f"o-{number:08d}",
            "labels": {f"label-{each}": f"{number * 31 + each:x}" for each in range(_LINES)},
            "items": [
                {"sku": f"SKU-{(number * 7 + each) % 97}", "quantity": 1 + each, "amount": 100 + number % 900}
                for each in range(_LINES)
            ],
        }
        text = json.dumps(order, sort_keys=True)
        items = json.loads(text)["items"]
        items.sort(key=lambda item: (item["amount"] * item["quantity"], item["sku"]))
        total = sum(item["quantity"] * item["amount"] for item in items)
        digest.update(f"{text}{total}{items[0]['sku']}".encode())
    return digest.hexdigest()[:16]


def main() -> int:
    """Do it once, and print its digest, CPU seconds and seconds by the clock."""
    gc.disable()
    wall, cpu = time.perf_counter(), time.process_time()
    digest = work()
    cpu_seconds, wall_seconds = time.process_time() - cpu, time.perf_counter() - wall
    print(json.dumps({"work": digest, "cpu_seconds": cpu_seconds, "wall_seconds": wall_seconds}))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
