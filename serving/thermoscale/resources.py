"""Where the files are that are not Python modules of a package: handlers, configuration, settings."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def resource_folder(name: str, package: Path = _PACKAGE) -> Path:
    """The folder ``name`` of a package: inside it when installed from a wheel, beside it in a checkout."""
    inside = package / name
    return inside if inside.is_dir() else package.parent / name
