"""Export: torch, onnxruntime and the opened bundle agree, or there is no bundle and nothing is left behind."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from thermoscale.errors import BundleError
from thermoscale.formats import Series
from thermoscale.numerics.adaptive_state import AdaptiveState
from thermoscale.numerics.change_ratio import Guards
from thermoscale.numerics.ratio_table import LARGEST_ERROR_K
from thermoscale.pipelines.amun_config import AmunConfig
from thermoscale.pipelines.iustfm import IustfmConfig
from thermoscale.runtime.ort import open_session
from thermoscale.service import open_bundle
from thermoscale.testing.worlds import make_series
from thermoscale_train import onnx_graphs, parity
from thermoscale_train.checkpoint import AmunCheckpoint, IustfmCheckpoint
from thermoscale_train.config import RegionSettings, load_iustfm_settings
from thermoscale_train.data.region import make_region
from thermoscale_train.dynet_start import pooling_weights
from thermoscale_train.export import export_amun, export_iustfm
from thermoscale_train.fit_adaptive import fit_adaptive
from thermoscale_train.judge_iustfm import golden_request
from thermoscale_train.models.amun import Amun, AmunNetConfig
from thermoscale_train.models.dynet import DyNet, DyNetConfig
from thermoscale_train.models.ratio_net import RatioNet, RatioNetConfig
from thermoscale_train.models.receptive import halo_px
from thermoscale_train.networks import as_network


def amun_checkpoint(n_factors: int) -> AmunCheckpoint:
    torch.manual_seed(0)
    network = AmunNetConfig(
        groups=tuple((i,) for i in range(n_factors)),
        factor_offset=(0.4,) * n_factors,
        factor_scale=(0.2,) * n_factors,
        detail_scale=2.0,
        width=4,
        depth=1,
        growth=4,
        heads=2,
        pool=4,
        patch_px=2,
    )
    amun = Amun(network)
    nn.init.normal_(amun.head.weight)
    rng = np.random.default_rng(0)
    golden = {"coarse": rng.normal(300, 5, (6, 7)).astype(np.float32)}
    golden["coarse"][0, 0] = np.nan
    if n_factors:
        golden["factors"] = rng.random((n_factors, 24, 28), np.float32)
    names = tuple(f"factor_{i}" for i in range(n_factors))
    config = AmunConfig(
        factor_names=names,
        factor_units=("1",) * n_factors,
        scale_factor=4,
        tile_px=96,
        halo_px=halo_px(network),
        overlap_px=4,
        multiple_px=4,
        context_px=(24, 28),
    )
    return AmunCheckpoint(config, network, amun.state_dict(), golden, {"seed": 0}, {}, "clear-sky")


@pytest.fixture(scope="module")
def series() -> Series:
    return make_series(0, fine_shape=(40, 40), scale_factor=8, n_dates=18, days_between=14).series


def fit_few_classes(series: Series) -> AdaptiveState:
    shipped = load_iustfm_settings().adaptive
    assert shipped is not None
    return fit_adaptive(series, replace(shipped, classes=6, left_out_dates=4), seed=0)


def iustfm_checkpoint(series: Series, *, trained: bool, mode: str | None = None) -> IustfmCheckpoint:
    """``mode``: the default one; with ``adaptive`` its state is fitted, too."""
    adaptive = fit_few_classes(series) if mode == "adaptive" else None
    torch.manual_seed(0)
    region = make_region(series, RegionSettings(n_hcr=4, clip_px=24), 30, 0)
    config = IustfmConfig(
        n_hcr=4,
        h_max=6,
        m_max=30,
        guards=Guards(),
        mode=mode or ("rationet" if trained else "closed_form"),
        range_distance=(0.1, 20.0),
        range_a2_negative=(-6.0, -0.1),
        range_a2_positive=(0.1, 6.0),
        adaptive=adaptive is not None,
    )
    config_of_dynet = DyNetConfig(30, 6, 8, 2, space="beta", pooled=True)
    dynet, ratio_net = DyNet(config_of_dynet, pooling_weights(region, 30, 6)), RatioNet(RatioNetConfig())
    nn.init.normal_(dynet.perceptron[-1].weight)
    nn.init.normal_(ratio_net.perceptron[-1].weight, std=0.1)  # untrained it is the closed form alone
    return IustfmCheckpoint(
        config=config,
        region=region,
        dynet=(dynet.config, dynet.state_dict()) if trained else None,
        ratio_net=(ratio_net.config, ratio_net.state_dict()) if trained else None,
        golden=golden_request(series, replace(config, mode="closed_form"), region),
        georeference=None,
        training={"seed": 0},
        metrics={"held_out": 1},
        sky="clear-sky",
        adaptive=adaptive,
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of ``amun_checkpoint(2)``."""
    return export_amun(amun_checkpoint(2), tmp_path_factory.mktemp("exported"), version="1.2.3")


@pytest.fixture
def graphs_from_store(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exporting ``amun_checkpoint(2)`` again takes seconds: take the graphs made before."""

    def copy(path: Path, graph: onnx_graphs.Graph, metadata: dict[str, str]) -> None:
        shutil.copy(exported / path.name, path)

    monkeypatch.setattr("thermoscale_train.export.write_graph", copy)


@pytest.fixture(scope="module")
def exported_iustfm(tmp_path_factory: pytest.TempPathFactory, series: Series) -> Path:
    """The bundle of a trained ``iustfm_checkpoint``; the graphs are the same whatever the mode."""
    return export_iustfm(iustfm_checkpoint(series, trained=True), tmp_path_factory.mktemp("iustfm"), version="1.2.3")


def write_sevens(source: Path, path: Path) -> None:
    """The graph in ``source`` with all its weights set to 7."""
    model = onnx.load(source)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(np.full_like(values, 7), tensor.name))
    onnx.save(model, path)


@pytest.fixture
def damage(exported_iustfm: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """From now on export takes the graphs made before, and sets all weights of the one named to 7."""

    def choose(damaged: str) -> None:
        def write(path: Path, graph: onnx_graphs.Graph, metadata: dict[str, str]) -> None:
            (write_sevens if path.name == damaged else shutil.copy)(exported_iustfm / path.name, path)

        monkeypatch.setattr("thermoscale_train.export.write_graph", write)

    return choose


def test_an_amun_bundle_gives_the_answer_of_torch(exported: Path) -> None:
    checkpoint = amun_checkpoint(2)
    assert exported.parts[-2:] == ("amun", "1.2.3")
    service = open_bundle(exported)
    got = service.predict(checkpoint.golden)
    assert parity.require_parity(parity.torch_amun(checkpoint), got, "service", 1e-3) <= 1e-3
    assert [channel["unit"] for channel in service.manifest.training["channels"]] == ["K", "1", "1"]
    assert [path.name for path in exported.parent.iterdir()] == ["1.2.3"]


def test_a_bundle_without_factors_gives_the_answer_of_torch(tmp_path: Path) -> None:
    checkpoint = amun_checkpoint(0)
    got = open_bundle(export_amun(checkpoint, tmp_path, version="0.1.0")).predict(checkpoint.golden)
    assert parity.require_parity(parity.torch_amun(checkpoint), got, "service", 1e-3) <= 1e-3


@pytest.mark.parametrize("trained", [True, False])
def test_an_iustfm_bundle_gives_the_answer_of_torch(tmp_path: Path, series: Series, trained: bool) -> None:
    checkpoint = iustfm_checkpoint(series, trained=trained)
    folder = export_iustfm(checkpoint, tmp_path, version="0.1.0")
    got = open_bundle(folder).predict(checkpoint.golden)
    expected = parity.torch_iustfm(checkpoint)[checkpoint.config.mode]
    assert parity.require_parity(expected, got, "service", 1e-3) <= 1e-3
    assert (folder / "dynet.onnx").exists() == (folder / "ratio_net.onnx").exists() == trained


@pytest.mark.parametrize("mode", ["rationet", "closed_form", "adaptive"])
def test_every_mode_of_a_bundle_gives_the_answer_of_torch_whatever_the_default(
    tmp_path: Path, series: Series, mode: str, damage: Callable[[str], None]
) -> None:
    damage("nothing")
    checkpoint = iustfm_checkpoint(series, trained=True, mode=mode)
    service = open_bundle(export_iustfm(checkpoint, tmp_path, version="0.1.0"))
    answers = parity.torch_iustfm(checkpoint)
    assert set(answers) == {"closed_form", "rationet", *([mode] if mode == "adaptive" else [])}
    for name, expected in answers.items():
        got = service.predict({**checkpoint.golden, "mode": name})
        assert parity.require_parity(expected, got, "service", 1e-3) <= 1e-3
    assert service.manifest.metrics["held_out"] == 1
    assert 0 <= service.manifest.metrics["ratio_table_error_k"] <= LARGEST_ERROR_K


def test_a_bundle_without_ratio_net_names_no_table(tmp_path: Path, series: Series) -> None:
    folder = export_iustfm(iustfm_checkpoint(series, trained=False), tmp_path, version="0.1.0")
    assert open_bundle(folder).manifest.metrics == {"held_out": 1}


@pytest.mark.parametrize("mode", ["rationet", "closed_form", "adaptive"])
@pytest.mark.parametrize("damaged", ["dynet.onnx", "ratio_net.onnx"])
def test_a_damaged_graph_is_refused_whatever_the_default_mode(
    tmp_path: Path, series: Series, damage: Callable[[str], None], mode: str, damaged: str
) -> None:
    damage(damaged)
    with pytest.raises(BundleError, match="no bundle was written"):
        export_iustfm(iustfm_checkpoint(series, trained=True, mode=mode), tmp_path, version="0.1.0")
    assert list((tmp_path / "iustfm").iterdir()) == []


def test_a_ratio_net_that_no_table_follows_is_refused(
    tmp_path: Path, series: Series, damage: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    damage("nothing")
    monkeypatch.setattr("thermoscale.pipelines.iustfm_table.RESOLUTIONS", ((2, 2),))
    with pytest.raises(BundleError, match=r"RatioNet and the table.*allowed 0.01.*no bundle was written"):
        export_iustfm(iustfm_checkpoint(series, trained=True, mode="closed_form"), tmp_path, version="0.1.0")
    assert list((tmp_path / "iustfm").iterdir()) == []


def test_the_table_is_measured_against_torch_and_not_against_its_own_graph(
    tmp_path: Path, series: Series, exported_iustfm: Path
) -> None:
    checkpoint = iustfm_checkpoint(series, trained=True)
    error = parity.require_ratio_table(checkpoint, exported_iustfm)
    assert error == open_bundle(exported_iustfm).manifest.metrics["ratio_table_error_k"]
    write_sevens(exported_iustfm / "ratio_net.onnx", tmp_path / "ratio_net.onnx")
    with pytest.raises(BundleError, match="RatioNet and the table"):
        parity.require_ratio_table(checkpoint, tmp_path)


def test_a_range_that_holds_the_pole_has_no_table_to_measure(series: Series, exported_iustfm: Path) -> None:
    checkpoint = iustfm_checkpoint(series, trained=True)
    guards = replace(checkpoint.config.guards, min_abs_one_plus_alpha=0.0)
    config = replace(checkpoint.config, guards=guards, range_a2_positive=(0.0, 6.0))
    assert parity.require_ratio_table(replace(checkpoint, config=config), exported_iustfm) is None


def test_graphs_are_one_file_of_standard_operators_that_say_what_they_are(exported: Path) -> None:
    for name in ("amun.onnx", "amun_context.onnx"):
        model = onnx.load(exported / name, load_external_data=False)
        assert {node.domain for node in model.graph.node} == {""}
        assert [(o.domain, o.version) for o in model.opset_import] == [("", onnx_graphs.OPSET)]
        assert all(not tensor.external_data for tensor in model.graph.initializer)
        about = {entry.key: entry.value for entry in model.metadata_props}
        assert (about["pipeline"], about["version"], about["unit"], about["graph"]) == ("amun", "1.2.3", "K", name)
        assert json.loads(about["channels"])[1]["name"] == "factor_0"
    assert not list(exported.glob("*.data"))


def test_every_batch_size_gives_the_answer_of_torch(exported: Path, tmp_path: Path, series: Series) -> None:
    checkpoint = iustfm_checkpoint(series, trained=True)
    bundles = {
        exported: onnx_graphs.amun_graphs(amun_checkpoint(2)),
        export_iustfm(checkpoint, tmp_path, version="0.1.0"): onnx_graphs.iustfm_graphs(checkpoint),
    }
    for folder, graphs in bundles.items():
        for name, graph in graphs.items():
            session, twin = open_session(folder / name), as_network(graph.function, list(graph.inputs), graph.outputs)
            for size in (1, 3) if graph.batched else (1,):
                feed = {
                    key: (value[:1].repeat(size, *[1] * (value.ndim - 1)) if key in graph.batched else value).numpy()
                    for key, value in graph.inputs.items()
                }
                got, wanted = session(feed), twin(feed)
                for output in graph.outputs:
                    np.testing.assert_allclose(got[output], wanted[output], atol=1e-3, rtol=0, equal_nan=True)


@pytest.mark.usefixtures("graphs_from_store")
def test_without_parity_there_is_no_bundle_and_nothing_is_left(tmp_path: Path) -> None:
    checkpoint = amun_checkpoint(2)
    other = {**checkpoint.state, "head.bias": checkpoint.state["head.bias"] + 0.01}
    with pytest.raises(BundleError, match=r"parity of torch and onnxruntime.*no bundle was written"):
        export_amun(replace(checkpoint, state=other), tmp_path, version="0.1.0")
    assert list((tmp_path / "amun").iterdir()) == []


@pytest.mark.usefixtures("graphs_from_store")
def test_a_bundle_that_cannot_answer_its_golden_sample_is_not_published(tmp_path: Path) -> None:
    checkpoint = amun_checkpoint(2)
    broken = replace(checkpoint, golden={**checkpoint.golden, "surprise": np.zeros(1, np.float32)})
    with pytest.raises(BundleError, match="surprise"):
        export_amun(broken, tmp_path, version="0.1.0")
    assert list((tmp_path / "amun").iterdir()) == []


def test_a_version_is_never_overwritten(exported: Path) -> None:
    before = (exported / "manifest.json").read_bytes()
    with pytest.raises(BundleError, match="immutable"):
        export_amun(amun_checkpoint(2), exported.parents[1], version="1.2.3")
    assert (exported / "manifest.json").read_bytes() == before
