"""This benchmark as a program of another checkout's interpreter:

    ../before/.venv/bin/python dev/bench/elsewhere.py mixed --seconds 180

The plane, its processes and the database are those of the other checkout. Only its package
`orderplane.dev.bench` is replaced, by the folder of this file: so both are measured the same way. From the
other checkout it needs what has hardly changed: how a plane is started, accounts and tokens, the audit.
"""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_PACKAGE = "orderplane.dev.bench"


def main() -> int:
    """Run the command line of this benchmark; 2 if it does not fit the other checkout any more."""
    folder = Path(__file__).resolve().parent
    # Python puts the folder of a program first; its modules are no packages of their own.
    sys.path = [place for place in sys.path if Path(place).resolve() != folder]
    spec = spec_from_file_location(_PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert spec is not None
    assert spec.loader is not None
    package = sys.modules[_PACKAGE] = module_from_spec(spec)
    spec.loader.exec_module(package)
    try:
        from orderplane import dev  # noqa: PLC0415

        dev.bench = package
        from orderplane.dev.bench.command import app  # noqa: PLC0415
    except ImportError as problem:
        sys.stderr.write(f"This benchmark does not fit the other checkout any more: {problem}\n")
        return 2
    app()
    return 0


if __name__ == "__main__":
    sys.exit(main())
