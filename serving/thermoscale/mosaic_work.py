"""The folder of a downscaling that is under way: whoever starts the same one again continues it."""

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thermoscale.arrays import Array, FloatArray
from thermoscale.errors import Unavailable
from thermoscale.geo.atomic import write_atomically


class State(NamedTuple):
    """How far a downscaling has come.

    Attributes:
        done: strips that are in the raster.
        context: of the scene, packed.
        carry: of the last strip, for the next.
        meta: ``meta`` of the result, begun with the work.
    """

    done: int
    context: FloatArray
    carry: Array
    meta: dict[str, Any]


class Work:
    """``.<name>.work`` beside the result: the raster so far, and the :class:`State` that says what of it counts.

    The state is replaced in one step after the rows it counts are on the disk, so it is right at every moment.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out.parent / f".{out.name}.work"
        self.raster, self.cog = self.folder / "raster.tif", self.folder / "cog.tif"
        self._state = self.folder / "state.npz"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder, for this process alone; the lock ends with the process, however that ends.

        A folder without a state is removed at the end.

        Raises:
            Unavailable: another process works here.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise Unavailable(f"another process works in {self.folder}: wait for it, or stop it") from error
            try:
                yield
            finally:
                if not self._state.exists():
                    shutil.rmtree(self.folder)

    def read(self, key: Mapping[str, Any]) -> State | None:
        """The state of the work on ``key``; None if there is none, or of something else."""
        if self.key() != dict(key):
            return None
        with np.load(self._state, allow_pickle=False) as arrays:
            meta = json.loads(str(arrays["meta"]))
            return State(int(arrays["done"]), arrays["context"], arrays["carry"], meta)

    def key(self) -> dict[str, Any] | None:
        """What the work that is here belongs to: bundle and inputs; None if there is no work."""
        if not self._state.exists():
            return None
        with np.load(self._state, allow_pickle=False) as arrays:
            found: dict[str, Any] = json.loads(str(arrays["key"]))
            return found

    def save(self, key: Mapping[str, Any], state: State) -> None:
        """Replace the state in one step.

        Raises:
            Unavailable: it cannot be written.
        """
        texts = json.dumps(key), json.dumps(state.meta)
        try:
            with write_atomically(self._state) as stream:
                np.savez(stream, key=texts[0], meta=texts[1], done=state.done, context=state.context, carry=state.carry)
        except OSError as error:
            raise Unavailable(f"cannot write {self._state}: {error}") from error

    def forget(self) -> None:
        """Drop the state: the raster counts no more."""
        self._state.unlink(missing_ok=True)
