"""Checkpoints: everything a fit leaves behind, in one file written atomically and read without pickle's dangers."""

import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thermoscale.arrays import Array
from thermoscale.errors import InvalidInput
from thermoscale.numerics.adaptive_state import AdaptiveState
from thermoscale.pipelines.amun_config import AmunConfig
from thermoscale.pipelines.iustfm_config import IustfmConfig
from thermoscale.pipelines.region import Region
from thermoscale_train.models.amun import Amun, AmunNetConfig
from thermoscale_train.models.dynet import DyNet, DyNetConfig
from thermoscale_train.models.ratio_net import RatioNet, RatioNetConfig

State = dict[str, Tensor]


@dataclass(frozen=True)
class AmunCheckpoint:
    """A fitted AMUN.

    Attributes:
        config: of the served pipeline. network, state: structure and weights.
        golden: a small scene (``coarse``, ``factors``) that becomes the bundle's golden sample.
        training, metrics: JSON objects for the manifest. sky: "clear-sky" or "all-sky".
    """

    config: AmunConfig
    network: AmunNetConfig
    state: State
    golden: dict[str, Array]
    training: dict[str, Any]
    metrics: dict[str, Any]
    sky: str

    def build(self) -> Amun:
        """The network with its weights, in evaluation mode."""
        network = Amun(self.network, self.config.views)
        network.load_state_dict(self.state)
        return network.eval()


@dataclass(frozen=True)
class IustfmCheckpoint:
    """A fitted I-USTFM of one place.

    Attributes:
        config, region: of the served pipeline.
        dynet, ratio_net: structure and weights, None in an untrained bundle.
        golden: a small request (``coarse``, ``time``, ``window``) that becomes the bundle's golden sample.
        georeference: as in the manifest, None when unknown.
        training, metrics: JSON objects for the manifest. sky: "clear-sky" or "all-sky".
        adaptive: of the mode of this name, None in a bundle without it.
    """

    config: IustfmConfig
    region: Region
    dynet: tuple[DyNetConfig, State] | None
    ratio_net: tuple[RatioNetConfig, State] | None
    golden: dict[str, Array]
    georeference: dict[str, Any] | None
    training: dict[str, Any]
    metrics: dict[str, Any]
    sky: str
    adaptive: AdaptiveState | None = None

    def build_dynet(self) -> DyNet | None:
        """DyNet with its weights, in evaluation mode."""
        if self.dynet is None:
            return None
        network = DyNet(self.dynet[0])
        network.load_state_dict(self.dynet[1])
        return network.eval()

    def build_ratio_net(self) -> RatioNet | None:
        """RatioNet with its weights, in evaluation mode."""
        if self.ratio_net is None:
            return None
        network = RatioNet(self.ratio_net[0])
        network.load_state_dict(self.ratio_net[1])
        return network.eval()


def save_checkpoint(path: Path, checkpoint: AmunCheckpoint | IustfmCheckpoint) -> None:
    """Write ``checkpoint`` to ``path``: the old file or the new one is there, never half of one."""
    save_state(path, _amun_fields(checkpoint) if isinstance(checkpoint, AmunCheckpoint) else _iustfm_fields(checkpoint))


def load_checkpoint(path: Path) -> AmunCheckpoint | IustfmCheckpoint:
    """Read what :func:`save_checkpoint` wrote.

    Raises:
        InvalidInput: not such a file.
    """
    stored = load_state(path)
    kind = stored.pop("pipeline", None)
    if kind == "amun":
        return _amun_from(stored)
    if kind == "iustfm":
        return _iustfm_from(stored)
    raise InvalidInput(f"{path} is not a checkpoint of thermoscale-train fit: it names the pipeline {kind!r}")


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a dictionary of tensors and plain values atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)


def load_state(path: Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote; only tensors and plain values are accepted.

    Raises:
        InvalidInput: missing, or not such a file.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds over bad bytes
        raise InvalidInput(f"cannot read checkpoint {path}: {error}") from error
    if not isinstance(stored, dict):
        raise InvalidInput(f"checkpoint {path} holds {type(stored).__name__}, needed a dictionary")
    return stored


def _amun_fields(checkpoint: AmunCheckpoint) -> dict[str, Any]:
    return {
        **_common_fields(checkpoint),
        "pipeline": "amun",
        "network": asdict(checkpoint.network),
        "state": checkpoint.state,
    }


def _amun_from(stored: dict[str, Any]) -> AmunCheckpoint:
    fixed = {
        "config": AmunConfig.from_json(stored["config"]),
        "network": AmunNetConfig(**stored["network"]),
        "golden": _to_arrays(stored["golden"]),
    }
    return AmunCheckpoint(**{**stored, **fixed})


def _iustfm_fields(checkpoint: IustfmCheckpoint) -> dict[str, Any]:
    return {
        **_common_fields(checkpoint),
        "pipeline": "iustfm",
        "region": _to_tensors(checkpoint.region.to_arrays()),
        "dynet": checkpoint.dynet and (asdict(checkpoint.dynet[0]), checkpoint.dynet[1]),
        "ratio_net": checkpoint.ratio_net and (asdict(checkpoint.ratio_net[0]), checkpoint.ratio_net[1]),
        "georeference": checkpoint.georeference,
        "adaptive": checkpoint.adaptive and _to_tensors(checkpoint.adaptive.to_arrays()),
    }


def _iustfm_from(stored: dict[str, Any]) -> IustfmCheckpoint:
    dynet, ratio_net, adaptive = stored["dynet"], stored["ratio_net"], stored.get("adaptive")
    fixed = {
        "config": IustfmConfig.from_json(stored["config"]),
        "region": Region.from_arrays(_to_arrays(stored["region"])),
        "dynet": dynet and (DyNetConfig(**dynet[0]), dynet[1]),
        "ratio_net": ratio_net and (RatioNetConfig(**ratio_net[0]), ratio_net[1]),
        "adaptive": adaptive and AdaptiveState.from_arrays(_to_arrays(adaptive)),
        "golden": _to_arrays(stored["golden"]),
    }
    return IustfmCheckpoint(**{**stored, **fixed})


def _common_fields(checkpoint: AmunCheckpoint | IustfmCheckpoint) -> dict[str, Any]:
    return {
        "config": checkpoint.config.to_json(),
        "golden": _to_tensors(checkpoint.golden),
        "training": checkpoint.training,
        "metrics": checkpoint.metrics,
        "sky": checkpoint.sky,
    }


def _to_tensors(arrays: dict[str, Array]) -> dict[str, Any]:
    """Numbers as tensors; texts, which no tensor holds, as (nested) lists."""
    return {
        name: array.tolist() if array.dtype.kind == "U" else torch.from_numpy(np.ascontiguousarray(array))
        for name, array in arrays.items()
    }


def _to_arrays(stored: dict[str, Any]) -> dict[str, Array]:
    return {
        name: value.numpy() if isinstance(value, Tensor) else np.asarray(value, dtype=np.str_)
        for name, value in stored.items()
    }
