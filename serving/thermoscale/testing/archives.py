"""Archives whose handlers or settings are replaced, to see what a server makes of it."""

import zipfile
from collections.abc import Mapping
from pathlib import Path


def altered(archive: Path, target: Path, own: Mapping[str, str]) -> Path:
    """A copy of ``archive`` in which the members named in ``own`` have that text."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            copy.writestr(name, own[name] if name in own else source.read(name))
    return target
