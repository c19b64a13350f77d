"""The data files of this package: manifests and migrations. To lack them is an error."""

from importlib.resources.abc import Traversable


def package_files(folder: Traversable, suffix: str) -> list[Traversable]:
    """The files in `folder` whose names end in `suffix`, sorted by name.

    Raises:
        FileNotFoundError: there are none. To go on would install nothing and say nothing.
    """
    found = [f for f in folder.iterdir() if f.name.endswith(suffix)] if folder.is_dir() else []
    if not found:
        raise FileNotFoundError(f"this installation has no {suffix} files in {folder}; install it again")
    return sorted(found, key=lambda f: f.name)
