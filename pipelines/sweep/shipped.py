"""The search spaces that come with Cutray, by name."""

from __future__ import annotations

from pathlib import Path

from cutray.errors import ConfigError

_FOLDER = "tune_configs"
# In the wheel they lie beside the jobs, in a checkout beside their folder.
_PLACES = tuple(Path(__file__).parents[level] / _FOLDER for level in (1, 2))


def list_spaces() -> dict[str, Path]:
    """Return the files of the search spaces that are shipped, by name."""
    return {path.stem: path for place in _PLACES for path in sorted(place.glob("*.yaml"))}


def find_space(file: Path) -> Path:
    """Return the file of a search space.

    Args:
        file: A path, or the name of a space that is shipped, such as ``smoke``.

    Raises:
        ConfigError: It is neither.
    """
    if file.is_file():
        return file
    shipped = list_spaces()
    if str(file) not in shipped:
        raise ConfigError(
            got=f"there is no file {str(file)!r}",
            allowed=f"a YAML file, or a name that is shipped: {', '.join(shipped)}",
            fix=f"run `cutray tune {file.stem}`" if file.stem in shipped else "check the path",
        )
    return shipped[str(file)]
