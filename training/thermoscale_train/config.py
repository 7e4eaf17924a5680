"""Settings of the fits, read strictly from TOML: a missing or unknown key is an error that names it.

The shipped settings are in ``training/configs``; one table of a file is one dataclass here.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from thermoscale.arrays import require_keys
from thermoscale.errors import InvalidInput
from thermoscale.numerics.change_ratio import Guards
from thermoscale.resources import resource_folder

CONFIG_FOLDER = resource_folder("configs", Path(__file__).parent)

T = TypeVar("T")


@dataclass(frozen=True)
class TrainingSettings:
    """One run of the training loop.

    Attributes:
        steps: batches at most. batch: samples in each.
        optimiser: "adam"; or "muon" for matrices and kernels, with Adam for what is left.
        learning_rate: of Adam; Muon's is a fixed multiple of it.
        weight_decay: of Adam, added to the gradient, or of Muon, times its learning rate.
        schedule: "cosine" falls to zero over ``steps``; "plateau" halves after two scores without improvement.
        evaluate_every: steps between two scores on the validation data.
        patience: scores without improvement before stopping; 0 never stops.
    """

    steps: int
    batch: int
    optimiser: str
    learning_rate: float
    weight_decay: float
    schedule: str
    evaluate_every: int
    patience: int

    def __post_init__(self) -> None:
        if self.optimiser not in ("adam", "muon"):
            raise InvalidInput(f"optimiser is {self.optimiser!r}, needed 'adam' or 'muon'")
        if self.schedule not in ("cosine", "plateau"):
            raise InvalidInput(f"schedule is {self.schedule!r}, needed 'cosine' or 'plateau'")
        if min(self.steps, self.batch, self.evaluate_every) < 1:
            raise InvalidInput(
                f"steps {self.steps}, batch {self.batch} and evaluate_every {self.evaluate_every} must be >= 1"
            )


@dataclass(frozen=True)
class AmunStructure:
    """Size of the network; see :class:`thermoscale_train.models.amun.AmunNetConfig`.

    Attributes:
        max_patch_px: a patch is the largest square of at most this side that divides a coarse cell, so that every
            patch knows where in its cell it lies.
        token_patches: patches per side of a token of the attention.
    """

    width: int
    depth: int
    growth: int
    heads: int
    token_patches: int
    max_patch_px: int


@dataclass(frozen=True)
class AmunTiles:
    """Tiles of the served pipeline, fine pixels; the halo follows from the network.

    Both are rounded down to what the network can take for the scale factor.
    """

    tile_px: int
    overlap_px: int


@dataclass(frozen=True)
class AmunSamples:
    """Training samples: ``crop_px`` squares; their outer ``margin_px`` are read but not scored.

    Both are rounded down to what the network can take for the scale factor.
    """

    crop_px: int
    margin_px: int


@dataclass(frozen=True)
class AmunLoss:
    """Huber loss with its bend at ``huber_k`` kelvin, plus ``closure_weight`` times the closure term."""

    huber_k: float
    closure_weight: float


@dataclass(frozen=True)
class AmunRefit:
    """The last training, on training and validation scenes together: ``steps`` (0: none) from ``learning_rate``."""

    steps: int
    learning_rate: float


@dataclass(frozen=True)
class AmunSettings:
    """``amun.toml``."""

    network: AmunStructure
    tiles: AmunTiles
    samples: AmunSamples
    loss: AmunLoss
    training: TrainingSettings
    refit: AmunRefit


@dataclass(frozen=True)
class ForestSettings:
    """``random_forest.toml``: the rival of AMUN, frozen.

    Attributes:
        trees, max_depth, min_leaf, max_features: of the forest; depth 0 is unlimited, ``max_features`` a share.
        windows_px: sides of the squares of fine pixels, odd, over which factors are averaged; none: the pixel alone.
        pixels_per_scene: drawn at random for the fit.
    """

    trees: int
    max_depth: int
    min_leaf: int
    max_features: float
    windows_px: tuple[int, ...]
    pixels_per_scene: int

    def __post_init__(self) -> None:
        if any(side < 3 or side % 2 == 0 for side in self.windows_px):
            raise InvalidInput(f"windows_px is {list(self.windows_px)}, needed odd sides of 3 or more")


@dataclass(frozen=True)
class RegionSettings:
    """HCRs and clips of a place.

    Attributes:
        n_hcr: clusters.
        clip_px: side of a clip, fine pixels; 0 means 32 coarse cells. Shrunk to the scene.
        merge_closer, split_wider: see :class:`thermoscale_train.data.hcr_clusters.Regroup`; 0 is off.
    """

    n_hcr: int
    clip_px: int
    merge_closer: float = 0.0
    split_wider: float = 0.0


@dataclass(frozen=True)
class DyNetStructure:
    """Size and kind of the network; see :class:`thermoscale_train.models.dynet.DyNetConfig`."""

    m_max: int
    h_max: int
    hidden: int
    layers: int
    space: str = "alpha"
    pooled: bool = False

    def __post_init__(self) -> None:
        if self.space not in ("alpha", "beta"):
            raise InvalidInput(f"space is {self.space!r}, needed 'alpha' or 'beta'")


@dataclass(frozen=True)
class DyNetSamples:
    """Training samples of DyNet: random clips x random triples.

    Attributes:
        pool: samples drawn before training; batches come from them.
        order: which triples of dates: "ordered" or "unordered".
        definition: of an HCR's true ratio: "ratio_of_sums" or "mean_of_ratios".
        min_pixels: an HCR is present in a clip with at least this many fine pixels.
        slot_dropout: share of the valid slots hidden in each batch.
    """

    pool: int
    order: str
    definition: str
    min_pixels: int
    slot_dropout: float


@dataclass(frozen=True)
class DyNetLoss:
    """Loss of DyNet.

    Attributes:
        error: "ratio", of the change ratio (the paper's); "lst", of the temperature it leads to.
        bend: squared errors below, linear beyond (Huber); in "lst" a share of the typical ``|post - pre|``. 0: squared
            everywhere (the paper's).
        weight: every HCR of a clip counts alike, "hcr" (the paper's), or by its "pixels" there.
    """

    error: str
    bend: float
    weight: str

    def __post_init__(self) -> None:
        if self.error not in ("ratio", "lst") or self.weight not in ("hcr", "pixels") or self.bend < 0.0:
            raise InvalidInput(
                f"error {self.error!r}, weight {self.weight!r}, bend {self.bend}: needed 'ratio' or 'lst', "
                "'hcr' or 'pixels', and >= 0"
            )


@dataclass(frozen=True)
class DyNetSettings:
    """``dynet.toml``."""

    region: RegionSettings
    network: DyNetStructure
    samples: DyNetSamples
    loss: DyNetLoss
    training: TrainingSettings
    guards: Guards


@dataclass(frozen=True)
class RatioNetStructure:
    """Layer widths of RatioNet."""

    hidden: tuple[int, ...]


@dataclass(frozen=True)
class RatioNetSamples:
    """Training samples of RatioNet: ``pool`` random pixels of ``triples`` random triples.

    Noise is added to the HCRs' ratios, so that RatioNet learns to live with it: with ``alpha_error`` as large as
    DyNet's held-out error, with ``alpha_snr`` so that the variance of a triple's ratios over HCRs is that
    many times the variance of the noise (0 adds none).
    """

    pool: int
    triples: int
    alpha_error: bool
    alpha_snr: float

    def __post_init__(self) -> None:
        if self.alpha_snr < 0.0:
            raise InvalidInput(f"alpha_snr is {self.alpha_snr}, needed >= 0")


@dataclass(frozen=True)
class SelectionSettings:
    """``held_out_dates`` library dates choose the mode, the number of steps and the calibration of the spread.

    Both networks are then trained again, on all library dates.
    """

    held_out_dates: int


@dataclass(frozen=True)
class RatioNetSettings:
    """``ratio_net.toml``."""

    network: RatioNetStructure
    samples: RatioNetSamples
    training: TrainingSettings
    selection: SelectionSettings


@dataclass(frozen=True)
class AdaptiveSettings:
    """``adaptive.toml``: the fit of the adaptive mode.

    Attributes:
        enabled: whether it is fitted at all.
        classes: of pixels that change alike, at most 254; fewer where the place has few coarse cells.
        left_out_dates: library dates left out in turn, at most.
        cells: coarse cells of each that teach variances.
        min_cover: share of valid fine pixels that a cell needs to be compared with the coarse image.
        rounds: of the variance estimate. ridge: pull of the stack towards its best member.
        most_cells: a place with more coarse cells gets no adaptive mode, which needs two matrices of cells x cells.
    """

    enabled: bool
    classes: int
    left_out_dates: int
    cells: int
    min_cover: float
    rounds: int
    ridge: float
    most_cells: int

    def __post_init__(self) -> None:
        if not 2 <= self.classes <= 254 or min(self.left_out_dates, self.cells, self.rounds) < 1:
            raise InvalidInput(
                f"classes {self.classes}, left_out_dates {self.left_out_dates}, cells {self.cells}, rounds "
                f"{self.rounds}: needed 2 to 254 classes and at least 1 of the others"
            )


@dataclass(frozen=True)
class IustfmSettings:
    """Both networks of I-USTFM, and the adaptive mode; None leaves it out."""

    dynet: DyNetSettings
    ratio_net: RatioNetSettings
    adaptive: AdaptiveSettings | None = None


def load_amun_settings(path: Path | None = None) -> AmunSettings:
    """The settings in ``path``, default the shipped ones."""
    return _load(path or CONFIG_FOLDER / "amun.toml", AmunSettings)


def load_forest_settings(path: Path | None = None) -> ForestSettings:
    """The settings in ``path``, default the shipped ones."""
    return _load(path or CONFIG_FOLDER / "random_forest.toml", ForestSettings)


def load_iustfm_settings(
    dynet: Path | None = None, ratio_net: Path | None = None, adaptive: Path | None = None
) -> IustfmSettings:
    """The settings in the three files, default the shipped ones."""
    return IustfmSettings(
        adaptive=_load(adaptive or CONFIG_FOLDER / "adaptive.toml", AdaptiveSettings),
        dynet=_load(dynet or CONFIG_FOLDER / "dynet.toml", DyNetSettings),
        ratio_net=_load(ratio_net or CONFIG_FOLDER / "ratio_net.toml", RatioNetSettings),
    )


def settings_from_table(name: str, table: Mapping[str, Any], kind: type[T]) -> T:
    """The settings in a table that is already parsed, read as strictly as a file; ``name`` is for messages."""
    return _build(name, table, kind)


def settings_to_json(settings: AmunSettings | IustfmSettings) -> dict[str, Any]:
    """As manifests and results store them."""
    return asdict(settings)


def _load(path: Path, kind: type[T]) -> T:
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise InvalidInput(f"cannot read settings {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"settings {path} are not TOML: {error}") from error
    return _build(str(path), data, kind)


def _build(name: str, data: object, kind: type[T]) -> T:
    """A dataclass from a table, its nested dataclasses from the tables inside."""
    if not isinstance(data, Mapping):
        raise InvalidInput(f"{name} is {data!r}, needed a table")
    if kind is Guards:
        return Guards.from_json(data)  # type: ignore[return-value]
    hints = get_type_hints(kind)
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    require_keys(name, data, names, set())
    return kind(**{key: _value(f"{name}: {key}", data[key], hints[key]) for key in names})


def _value(name: str, value: object, kind: Any) -> Any:
    if hasattr(kind, "__dataclass_fields__"):
        return _build(name, value, kind)
    if kind == tuple[int, ...] and isinstance(value, list) and all(type(v) is int for v in value):
        return tuple(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        wanted = getattr(kind, "__name__", str(kind))
        raise InvalidInput(f"{name} is {value!r}, needed a value of type {wanted}")
    return value
