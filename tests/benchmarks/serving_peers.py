"""The same networks in other servers, each in an environment of its own, and in this process without a server.

Every server has one worker process for a network and one thread in it, and gets the same tensors from the same clients:
``.npz`` bodies where it takes any bytes, its own protocol where it does not (MLServer). ``thermoscale`` is not among
them: it answers requests in kelvin, with context, spread and flags; see the stages.
"""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from measuring import say
from peers.plain_onnx import answer_npz, open_onnx
from serving_machine import START_S, BenchServer, percentiles

from thermoscale.client import GrpcClient, RestClient
from thermoscale.errors import Unavailable
from thermoscale.server.setup import free_ports
from thermoscale.wire.limits import Limits
from thermoscale.wire.npz import decode_npz, encode_npz

PEERS = Path(__file__).with_name("peers")
CACHE = Path(__file__).parents[2] / "build" / "peers"
INSTALL_S, STOP_S = 900.0, 10.0
CLIENTS, THROUGHPUT_S = 4, 4.0
INFER = "/inference.GRPCInferenceService/ModelInfer"

Send = Callable[[], bytes]


class Network(NamedTuple):
    """A graph and one input for it."""

    path: Path
    arrays: dict[str, Any]


def example(path: Path, batch: int) -> Network:
    """The graph with an input of random numbers, ``batch`` samples at once."""
    import onnxruntime

    rng, arrays = np.random.default_rng(0), dict[str, Any]()
    for given in onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).get_inputs():
        shape = [batch if isinstance(length, str) else length for length in given.shape]
        floats = rng.normal(0, 1, shape).astype(np.float32)
        arrays[given.name] = floats if given.type == "tensor(float)" else np.ones(shape, bool)
    return Network(path, arrays)


def pack_plain(name: str, network: Network, store: Path) -> Path:
    """An archive of the network and a handler of a few lines."""
    path = store / f"{name}.mar"
    model = {"modelName": name, "handler": "plain_handler.py", "modelVersion": "0.0.1"}
    manifest = {"createdOn": "", "runtime": "python", "model": model, "archiverVersion": "0.12.0"}
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(PEERS / "plain_handler.py", "plain_handler.py")
        archive.write(PEERS / "plain_onnx.py", "plain_onnx.py")
        archive.write(network.path, "network.onnx")
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
    return path


def environment(peer: str) -> Path:
    """The interpreter of ``peer``'s environment, made once with the versions of ``peers/<peer>.txt``.

    Raises:
        Unavailable: it cannot be installed.
    """
    python, done = CACHE / peer / "bin" / "python", CACHE / peer / "installed.txt"
    wanted = PEERS / f"{peer}.txt"
    if done.exists() and done.read_bytes() == wanted.read_bytes():
        return python
    say(f"installing {peer}")
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(CACHE / peer)],
        [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", str(wanted)],
    ):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_S)
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"{peer} was not installed within {INSTALL_S:g} s") from error
        except subprocess.CalledProcessError as error:
            reason = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise Unavailable(f"{peer} cannot be installed: {reason}") from error
    done.write_bytes(wanted.read_bytes())
    return python


@contextmanager
def _process(command: list[str], log: Path, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process group of its own, which is ended as a whole."""
    env = {**os.environ, "PYTHONPATH": str(PEERS), "OMP_NUM_THREADS": "1"}
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=stream, stderr=stream, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(process: subprocess.Popen[bytes], rest: RestClient, path: str, log: Path) -> None:
    """Until ``path`` answers 200."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if rest.request("GET", path)[0] == 200:
                return
        except Unavailable:
            pass
        time.sleep(0.2)
    raise Unavailable(f"the server did not start: {log.read_text('utf-8', 'replace')[-500:]}")


@contextmanager
def litserve(networks: Mapping[str, Network], folder: Path) -> Iterator[dict[str, dict[str, Send]]]:
    """LitServe: wire -> network -> one exchange."""
    python, port, log = environment("litserve"), free_ports().rest, folder / "litserve.log"
    models = [f"{name}={network.path}" for name, network in networks.items()]
    command = [str(python), str(PEERS / "litserve_server.py"), str(port), *models]
    with _process(command, log, folder) as process:
        rest = RestClient(f"http://127.0.0.1:{port}")
        _wait(process, rest, "/health", log)
        yield {"rest": {name: _npz_sender(rest, name, network) for name, network in networks.items()}}


@contextmanager
def torchserve(networks: Mapping[str, Network], folder: Path) -> Iterator[dict[str, dict[str, Send]]]:
    """TorchServe with a handler of a few lines, started as ours."""
    archives = [pack_plain(name, network, folder) for name, network in networks.items()]
    with BenchServer(archives, workers=1) as server:
        server.wait_all_ready()
        with GrpcClient(server.grpc_address) as grpc_client:
            clients = {"rest": RestClient(server.rest_url), "grpc": grpc_client}
            yield {
                wire: {name: _npz_sender(client, name, network) for name, network in networks.items()}
                for wire, client in clients.items()
            }


@contextmanager
def mlserver(networks: Mapping[str, Network], folder: Path) -> Iterator[dict[str, dict[str, Send]]]:
    """MLServer with its default of one worker process; raw tensors over gRPC, JSON over REST (it takes no bytes)."""
    import grpc

    python, ports, log = environment("mlserver"), free_ports(), folder / "mlserver.log"
    place = folder / "mlserver"
    place.mkdir()
    settings = {"host": "127.0.0.1", "http_port": ports.rest, "grpc_port": ports.grpc, "metrics_port": ports.management}
    settings |= {"parallel_workers": 1, "grpc_max_message_length": 2**28, "debug": False}
    (place / "settings.json").write_text(json.dumps(settings))
    for name, network in networks.items():
        (place / name).mkdir()
        model = {"name": name, "implementation": "mlserver_model.PlainModel", "parameters": {"uri": str(network.path)}}
        (place / name / "model-settings.json").write_text(json.dumps(model))
        np.savez(place / name / "arrays.npz", **network.arrays)
        writer = [str(python), str(PEERS / "mlserver_requests.py"), name, f"{name}/arrays.npz", name]
        subprocess.run(writer, check=True, cwd=place)
    command = [str(python.with_name("mlserver")), "start", str(place)]
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with _process(command, log, place) as process:
        rest = RestClient(f"http://127.0.0.1:{ports.rest}")
        for name in networks:
            _wait(process, rest, f"/v2/models/{name}/ready", log)
        with grpc.insecure_channel(f"127.0.0.1:{ports.grpc}", options=options) as channel:
            infer = channel.unary_unary(INFER)  # bytes as they are
            bodies = {name: (place / name / "request.grpc").read_bytes() for name in networks}
            texts = {name: (place / name / "request.json").read_bytes() for name in networks}
            yield {
                "grpc": {name: lambda body=body: infer(body, timeout=60) for name, body in bodies.items()},
                "rest": {name: _json_sender(rest, name, text) for name, text in texts.items()},
            }


def _npz_sender(client: RestClient | GrpcClient, name: str, network: Network) -> Send:
    body = encode_npz(network.arrays)
    return lambda: client.predict_bytes(name, {"body": body})


def _json_sender(rest: RestClient, name: str, text: bytes) -> Send:
    def send() -> bytes:
        status, reply = rest.request("POST", f"/v2/models/{name}/infer", text, "application/json")
        if status != 200:
            raise Unavailable(f"MLServer answers {status}: {reply[:200]!r}")
        return reply

    return send


SERVERS = {"torchserve": torchserve, "litserve": litserve, "mlserver": mlserver}


def peers(networks: Mapping[str, Network], rounds: int, folder: Path) -> dict[str, Any]:
    """Latency by turns, throughput of four clients one server after another."""
    found: dict[str, Any] = {"skipped": {}, "networks": {}}
    runs = {name: open_onnx(str(network.path)) for name, network in networks.items()}
    with ExitStack() as stack:
        wires: dict[str, dict[str, Send]] = {}
        for name, start in SERVERS.items():
            say(f"{name} starts")
            try:
                started = stack.enter_context(start(networks, folder))
            except Unavailable as error:
                found["skipped"][name] = str(error)
                continue
            wires |= {f"{name} {wire}": sends for wire, sends in started.items()}
        for name, network in networks.items():
            body, expected = encode_npz(network.arrays), runs[name](network.arrays)
            sends: dict[str, Send] = {"in process": lambda name=name, body=body: answer_npz(runs[name], body)}
            sends |= {wire: by_network[name] for wire, by_network in wires.items()}
            found["networks"][name] = {"request_bytes": len(body), **_compare(name, sends, expected, rounds)}
    return found


def _compare(name: str, sends: Mapping[str, Send], expected: Mapping[str, Any], rounds: int) -> dict[str, Any]:
    for wire, send in sends.items():
        _require_same(wire, send(), expected)
        send()
    took: dict[str, list[float]] = {wire: [] for wire in sends}
    for turn in range(rounds):
        say(f"peers {name} {turn}/{rounds}")
        for wire, send in sends.items():
            start = time.perf_counter()
            send()
            took[wire].append(1e3 * (time.perf_counter() - start))
    floor = float(np.median(took["in process"]))
    return {
        wire: {
            **percentiles(np.array(values)),
            "times_in_process": float(np.median(values)) / floor,
            "per_s": None if wire == "in process" else _throughput(sends[wire]),
        }
        for wire, values in took.items()
    }


def _require_same(wire: str, reply: bytes, expected: Mapping[str, Any]) -> None:
    """The answer of onnxruntime in this process, bit for bit where the reply holds raw numbers."""
    if wire == "mlserver grpc":
        assert all(array.tobytes() in reply for array in expected.values()), wire
        return
    if wire == "mlserver rest":
        got = {entry["name"]: np.array(entry["data"]) for entry in json.loads(reply)["outputs"]}
    else:
        got = dict(decode_npz(reply, Limits()))
    for name, array in expected.items():
        np.testing.assert_allclose(got[name].reshape(array.shape), array, rtol=1e-6, err_msg=f"{wire} {name}")


def _throughput(send: Send) -> float:
    """Requests a second of four clients at once, each sending one after another for some seconds."""
    start = time.perf_counter()

    def client(_: int) -> int:
        sent = 0
        while time.perf_counter() - start < THROUGHPUT_S:
            send()
            sent += 1
        return sent

    with ThreadPoolExecutor(CLIENTS) as pool:
        return sum(pool.map(client, range(CLIENTS))) / (time.perf_counter() - start)
