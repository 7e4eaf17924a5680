"""Parts that name a file on the server's disk instead of carrying its bytes: only inside folders that were allowed.

A path from outside is never given to another program. Symbolic links are resolved, the result must lie inside an
allowed folder, and it is then opened folder by folder without following links, so that nothing can be exchanged
between the check and the reading. What a hard link inside an allowed folder names is readable.
"""

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from thermoscale.errors import InvalidInput
from thermoscale.wire.limits import Limits

ROOTS_VARIABLE = "THERMOSCALE_FILE_ROOTS"
SUFFIX = "_file"
_MAX_PATH_BYTES = 4096
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe must not make the worker wait


class FileRoots:
    """The folders of which requests may name files; none by default."""

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        """Args:
            folders: absolute.

        Raises:
            InvalidInput: not absolute, or no folder.
        """
        for folder in folders:
            if not folder.is_absolute() or not folder.is_dir():
                raise InvalidInput(f"{ROOTS_VARIABLE} names {str(folder)!r}, needed absolute paths of folders")
        self._folders = tuple(folder.resolve() for folder in folders)

    @classmethod
    def from_environment(cls) -> "FileRoots":
        """The folders in THERMOSCALE_FILE_ROOTS, separated by ``:``.

        Raises:
            InvalidInput: one is not absolute, or no folder.
        """
        return cls([Path(text) for text in os.environ.get(ROOTS_VARIABLE, "").split(os.pathsep) if text])

    def read_parts(self, parts: Mapping[str, bytes], limits: Limits) -> dict[str, bytes]:
        """``parts``, with the content of the file named by each ``<name>_file`` under ``<name>``.

        Raises:
            InvalidInput: files are not allowed here, a path is not, its file is no plain file or too large, or the
                part ``<name>`` is there, too.
        """
        return {
            name.removesuffix(SUFFIX): self._read_part(name, part, parts, limits) if name.endswith(SUFFIX) else part
            for name, part in parts.items()
        }

    def _read_part(self, name: str, part: bytes, parts: Mapping[str, bytes], limits: Limits) -> bytes:
        if name.removesuffix(SUFFIX) in parts:
            raise InvalidInput(f"the request gives {[name.removesuffix(SUFFIX)]} twice: as {name}, too")
        if not self._folders:
            raise InvalidInput(
                f"{name} names a file, and this server reads none: send its bytes as {name.removesuffix(SUFFIX)} "
                f"(whoever runs the server may allow folders with {ROOTS_VARIABLE})"
            )
        path = _absolute_path(name, part)
        resolved = Path(os.path.realpath(path))
        root = next((folder for folder in self._folders if resolved.is_relative_to(folder)), None)
        if root is None:
            raise InvalidInput(f"{name} is {path!r:.200}, which is in no folder that requests may read from")
        try:
            return _read(name, _open_inside(root, resolved.relative_to(root)), limits)
        except OSError as error:
            raise InvalidInput(f"{name}: cannot read {path!r:.200}: {error.strerror}") from error


def _absolute_path(name: str, part: bytes) -> str:
    if len(part) > _MAX_PATH_BYTES:
        raise InvalidInput(f"{name} has {len(part)} bytes, needed a path of at most {_MAX_PATH_BYTES}")
    try:
        path = bytes(part).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name} is no path: not UTF-8 text") from error
    if not path.startswith("/") or path.startswith(("/vsi", "//")) or not path.isprintable():
        raise InvalidInput(f"{name} is {path!r:.200}, needed the absolute path of a file; no address, no /vsi path")
    return path


def _open_inside(root: Path, relative: Path) -> int:
    """A descriptor of the file; a link met on the way was put there after the path was resolved."""
    at = os.open(root, _OPEN_FOLDER)
    try:
        for folder in relative.parts[:-1]:
            at, above = os.open(folder, _OPEN_FOLDER, dir_fd=at), at
            os.close(above)
        return os.open(relative.name or ".", _OPEN_FILE, dir_fd=at)
    finally:
        os.close(at)


def _read(name: str, descriptor: int, limits: Limits) -> bytes:
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise InvalidInput(f"{name} names something that is not a plain file")
        if facts.st_size > limits.max_body_bytes:
            raise InvalidInput(
                f"{name} names a file of {facts.st_size} bytes, at most {limits.max_body_bytes} are allowed"
            )
        with open(descriptor, "rb", closefd=False) as stream:
            return stream.read(facts.st_size)
    finally:
        os.close(descriptor)
