"""What the judge of fusion methods needs of an I-USTFM: its library, its HCRs and its answers."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from thermoscale.arrays import FloatArray, IntArray
from thermoscale.errors import InvalidInput, Undetermined
from thermoscale.formats import Series
from thermoscale.iustfm_requests import RATIO_NET_GRAPH
from thermoscale.numerics.adaptive_state import AdaptiveState
from thermoscale.numerics.change_ratio import Guards
from thermoscale.pipelines.iustfm import Iustfm, Region, decode_library
from thermoscale.pipelines.iustfm_config import ADAPTIVE, MODES
from thermoscale.pipelines.region import REGION_NAMES
from thermoscale.service import Service
from thermoscale_train.checkpoint import IustfmCheckpoint
from thermoscale_train.config import IustfmSettings
from thermoscale_train.data.region import hcr_labels
from thermoscale_train.fit_adaptive import adaptive_or_none
from thermoscale_train.fit_iustfm import fit_iustfm, make_place
from thermoscale_train.networks import dynet_network, ratio_net_network
from thermoscale_train.usable import UsableRule, usable_dates

FACTS = ("steps", "alpha_sd", "held_out_for_selection")


class FusionModel(NamedTuple):
    """One I-USTFM to be judged, or, without modes, only the place it would be fitted to.

    Attributes:
        library: dates with both images; no target is among them.
        labels: HCRs ``[H, W]``.
        guards: K, of the model; everything that it is compared with by its triples uses them, too.
        predict: mode -> ``(coarse [h, w], time, **options)`` to the answer of
            :class:`thermoscale.pipelines.iustfm.Iustfm`, whose options they are.
        facts: how the fit went: steps, mode, dates of the rehearsal.
    """

    library: Series
    labels: IntArray
    guards: Guards
    predict: Mapping[str, Callable[..., dict[str, Any]]]
    facts: Mapping[str, Any] = {}


def place_alone(library: Series, settings: IustfmSettings, seed: int) -> FusionModel:
    """The HCRs and no mode: all that methods without a fit need."""
    labels = hcr_labels(library.fine, settings.dynet.region, seed, settings.dynet.network.h_max)
    return FusionModel(library, labels, settings.dynet.guards, {})


def fit_untrained(library: Series, settings: IustfmSettings, rule: UsableRule, seed: int) -> FusionModel:
    """The modes that need no network: the closed form with pooled ratios, and ``adaptive``.

    A library of two dates serves them, and where only ``adaptive`` is asked nothing else has to be fitted.
    """
    place = make_place(library.select_fine(usable_dates(library, rule)[0]), settings, seed)
    adaptive = adaptive_or_none(place.series, settings, seed)
    config = replace(place.config, adaptive=adaptive is not None)
    pipeline = Iustfm(config, place.region, None, None, adaptive=adaptive, remembered=1)
    return FusionModel(library, place.region.labels, config.guards, _answers(pipeline, ("closed_form",), adaptive))


def fit_model(library: Series, settings: IustfmSettings, rule: UsableRule, seed: int) -> FusionModel:
    """HCRs, ``adaptive`` and networks fitted to ``library``; without networks where it does not determine them."""
    try:
        checkpoint = fit_iustfm(library, settings, rule=rule, seed=seed)
    except Undetermined:
        return fit_untrained(library, settings, rule, seed)
    modes = MODES if checkpoint.ratio_net else ("closed_form",)
    predict = _answers(pipeline_of(checkpoint), modes, checkpoint.adaptive)
    facts = {key: checkpoint.training[key] for key in FACTS if key in checkpoint.training}
    held_out = checkpoint.metrics.get("held_out", {})
    facts |= {"mode": checkpoint.config.mode, **{key: held_out[key] for key in held_out if key != "dates"}}
    return FusionModel(library, checkpoint.region.labels, checkpoint.config.guards, predict, facts)


def _answers(
    pipeline: Iustfm, modes: tuple[str, ...], adaptive: AdaptiveState | None
) -> dict[str, Callable[..., dict[str, Any]]]:
    served = modes if adaptive is None else (*modes, ADAPTIVE)
    return {mode: partial(pipeline.predict, mode=mode) for mode in served}


def pipeline_of(checkpoint: IustfmCheckpoint) -> Iustfm:
    """The served pipeline around the networks of a checkpoint."""
    dynet, ratio_net = checkpoint.build_dynet(), checkpoint.build_ratio_net()
    return Iustfm(
        checkpoint.config,
        checkpoint.region,
        None if dynet is None else dynet_network(dynet),
        None if ratio_net is None else ratio_net_network(ratio_net),
        adaptive=checkpoint.adaptive,
        remembered=1,
    )


def model_of_bundle(service: Service, folder: Path, series: Series) -> FusionModel:
    """The opened bundle in ``folder``; its own scenes, as stored, are the library.

    Raises:
        InvalidInput: another pipeline, or ``series`` is not on the bundle's grids.
    """
    if service.pipeline != "iustfm":
        raise InvalidInput(f"bundle {folder} holds the pipeline {service.pipeline}, needed iustfm")
    region = Region.from_arrays({name: np.load(folder / "region" / f"{name}.npy") for name in REGION_NAMES})
    config = service.manifest.config
    same_index = np.array_equal(region.coarse_index, series.coarse_index)
    if region.coarse_shape != series.coarse.shape[1:] or not same_index or config["quantity"] != series.quantity:
        raise InvalidInput(
            f"the series holds {series.quantity} on grids {list(series.coarse.shape[1:])} and "
            f"{list(series.fine.shape[1:])}; the bundle was made for {config['quantity']} on "
            f"{list(region.coarse_shape)} and {list(region.fine_shape)}, linked by its own coarse_index"
        )

    def predict(mode: str, coarse: FloatArray, time: str, **options: Any) -> dict[str, Any]:
        reply = service.predict({"coarse": coarse, "time": time, "mode": mode, **options})
        return {**reply, "dates_used": reply["meta"]["dates_used"]}

    modes: tuple[str, ...] = MODES if RATIO_NET_GRAPH in service.manifest.files else ("closed_form",)
    modes += (ADAPTIVE,) if config.get("adaptive") else ()
    answers = {mode: partial(predict, mode) for mode in modes}
    return FusionModel(_stored_series(region, config), region.labels, Guards.from_json(config["guards"]), answers)


def seen_dates(service: Service, model: FusionModel) -> set[str]:
    """Dates that took part in the making of a bundle, in whatever way."""
    training = service.manifest.training
    return {*model.library.fine_time, *training.get("library_dates", ()), *training.get("held_out_for_selection", ())}


def _stored_series(region: Region, config: dict[str, Any]) -> Series:
    step = config["library_step"]
    return Series.from_arrays(
        {
            "coarse": decode_library(region.library_coarse, step),
            "fine": decode_library(region.library_fine, step),
            "coarse_time": region.library_time,
            "fine_time": region.library_time,
            "coarse_index": region.coarse_index,
            "quantity": config["quantity"],
        }
    )
