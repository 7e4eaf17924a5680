"""The disk is full; the archives are gone."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import psutil

from drills.engine import Engine, is_running, seconds_until_ready
from drills.load import Client, send, steady_load
from drills.stage import Row, Stage, start_and_wait

_TMPFS_MB = 64
_WHILE_FULL_S = 5.0
_REFUSAL_S = 120.0


def disk_full(stage: Stage) -> Row:
    """A server whose logs and temporary files lie on a small disk, which fills while it serves and is then freed."""
    row = stage.row("disk full")
    with small_disk() as disk:
        if disk is None:
            row.skipped = "mounting a tmpfs needs root"
            return row
        with stage.own_engine(disk) as engine, engine.access.clients() as clients:
            _fill_and_free(stage, engine, clients, disk, row)
        _start_on_full_disk(stage, disk, row)
    return row


def _fill_and_free(stage: Stage, engine: Engine, clients: Mapping[str, Client], disk: Path, row: Row) -> None:
    with steady_load(clients, stage.oracle, row.tally):
        _fill(disk)
        time.sleep(_WHILE_FULL_S)
        form = replace(stage.oracle.slow_case, as_form=True)  # TorchServe writes parts beyond 16 kB to disk
        for client in clients.values():
            send(client, form, stage.oracle, row.tally)
        since = time.monotonic()
        (disk / "filler").unlink()
        row.back_s["load"] = seconds_until_ready(engine, since, patience_s=60.0)


def store_removed(stage: Stage) -> Row:
    """The folder with the archives vanishes, then a worker dies: what is unpacked has to do."""

    def kill(engine: Engine) -> frozenset[int]:
        pid = engine.workers("amun")[0].pid
        psutil.Process(pid).kill()
        return frozenset([pid])

    return _without_store(stage, "model store removed, then a worker killed", kill)


def store_removed_for_server(stage: Stage) -> Row:
    """The folder with the archives vanishes, then the server is killed, which unpacks them when it starts."""

    def kill(engine: Engine) -> frozenset[int]:
        engine.server().kill()
        return frozenset()

    return _without_store(stage, "model store removed, then the server killed", kill)


def _without_store(stage: Stage, name: str, kill: Callable[[Engine], frozenset[int]]) -> Row:
    store = Path(tempfile.mkdtemp(prefix="s", dir=stage.folder))
    engine = stage.new_engine([Path(shutil.copy(archive, store)) for archive in stage.archives])
    try:
        start_and_wait(engine)
        shutil.rmtree(store)
        return stage.fault(name, kill, engine)
    finally:
        engine.stop()


@contextlib.contextmanager
def small_disk() -> Iterator[Path | None]:
    """A tmpfs of 64 MB; None where it cannot be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="disk"))
    options = ["-t", "tmpfs", "-o", f"size={_TMPFS_MB}m", "tmpfs", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(["mount", *options], capture_output=True).returncode == 0
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


def _fill(disk: Path) -> None:
    """One file until there is no byte left."""
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(65536))
    with contextlib.suppress(OSError), (disk / "filler").open("ab", buffering=0) as filler:
        while True:
            filler.write(b"0")


def _start_on_full_disk(stage: Stage, disk: Path, row: Row) -> None:
    """A start finds another temporary folder, as Python does, or ends and says why; it does not hang."""
    engine = stage.new_engine(folder=disk / "again")
    for folder in ("logs", "temp"):
        (disk / "again" / folder).mkdir(parents=True)
    _fill(disk)
    engine.start()
    seconds = seconds_until_ready(engine, time.monotonic(), patience_s=_REFUSAL_S)
    if seconds is not None:
        row.note = "a start on the full disk gets ready with a temporary folder elsewhere"
    elif is_running(engine):
        row.defects.append(f"a start on a full disk is neither ready nor ended within {_REFUSAL_S:.0f} s")
    elif "No space left" not in engine.log():
        row.defects.append(f"a start on a full disk does not say so: {engine.log()[-200:]!r}")
    engine.stop()
