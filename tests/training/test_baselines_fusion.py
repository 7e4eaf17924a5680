"""STARFM, ESTARFM, Fit-FC and U-STFM: worlds whose answer is known, slow obvious twins, gaps, refusals."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats

from thermoscale.arrays import QUANTITIES, Array, FloatArray
from thermoscale.errors import InvalidInput, Undetermined
from thermoscale.formats import Series
from thermoscale.numerics.change_ratio import Guards
from thermoscale.numerics.grids import area_mean, interpolate, regular_index
from thermoscale.testing.worlds import make_series
from thermoscale_train.baselines.estarfm import PUBLISHED as ESTARFM
from thermoscale_train.baselines.estarfm import estarfm
from thermoscale_train.baselines.fitfc import FitfcConstants, fitfc
from thermoscale_train.baselines.neighbours import window_radius
from thermoscale_train.baselines.starfm import PUBLISHED as STARFM
from thermoscale_train.baselines.starfm import starfm
from thermoscale_train.baselines.ustfm import UstfmConstants, unmix_bounded, ustfm

Method = Callable[[Series, FloatArray, str], FloatArray]
TIMES = ("2020-05-01T12:00Z", "2020-05-09T12:00Z", "2020-05-17T12:00Z")
TARGET = TIMES[1]


def starfm_single(series: Series, coarse_target: FloatArray, time: str) -> FloatArray:
    return starfm(series, coarse_target, time, pairs="nearest")


def ustfm_beta(series: Series, coarse_target: FloatArray, time: str) -> FloatArray:
    return ustfm(series, coarse_target, time, variant="beta", constants=UstfmConstants(n_hcr=6))


WINDOW_METHODS: list[Method] = [starfm, starfm_single, estarfm, fitfc]
METHODS: list[Method] = [*WINDOW_METHODS, ustfm_beta]


def series_of(fine: Array, scale_factor: int, quantity: str = "lst") -> Series:
    """Scenes ``[3, H, W]`` at :data:`TIMES`, the coarse ones their cell means."""
    shape = (fine.shape[1] // scale_factor, fine.shape[2] // scale_factor)
    coarse = area_mean(fine, regular_index(shape, (fine.shape[1], fine.shape[2])), shape)
    return Series.from_arrays(
        {"coarse": coarse, "coarse_time": TIMES, "fine": fine, "fine_time": TIMES, "quantity": quantity}
    )


def predict(method: Method, series: Series, time: str = TARGET) -> FloatArray:
    return method(series.without(time), series.coarse_at(time), time)


def textured(seed: int, size: int = 24) -> Array:
    """One scene without structure."""
    return np.random.default_rng(seed).normal(295.0, 3.0, (size, size)).astype(np.float32)


def three_classes(size: int = 24) -> Array:
    """Class numbers in diagonal stripes, so that coarse cells differ and every window sees many pixels of each."""
    rows, cols = np.indices((size, size))
    return (rows // 2 + cols // 5) % 3


def world(seed: int, **options: object) -> Series:
    quiet = {"fine_shape": (24, 24), "scale_factor": 4, "n_dates": 7, "fine_every": 2}
    return make_series(seed, **{**quiet, **options}).series  # type: ignore[arg-type]


@pytest.mark.parametrize("method", [starfm, starfm_single, estarfm])
def test_an_unchanged_world_gives_back_the_fine_image(method: Method) -> None:
    scene = textured(1)
    np.testing.assert_allclose(predict(method, series_of(np.stack([scene] * 3), 4)), scene, atol=1e-4)


def fitfc_of_few(series: Series, coarse_target: FloatArray, time: str) -> FloatArray:
    """Six similar pixels: more than that a corner of the small scene does not see of its class."""
    return fitfc(series, coarse_target, time, constants=FitfcConstants(n_similar=6))


@pytest.mark.parametrize("method", [starfm, starfm_single, estarfm, fitfc_of_few])
@settings(max_examples=10, deadline=None)
@given(st.floats(-8, 8), st.floats(-8, 8))
def test_one_change_for_all_pixels_is_exact(method: Method, first: float, last: float) -> None:
    classes = np.array([285.0, 295.0, 305.0])[three_classes()]
    change = np.array([first, (first + last) / 2, last])[:, None, None]
    series = series_of((classes + change).astype(np.float32), 4)
    np.testing.assert_allclose(predict(method, series), series.fine_at(TARGET), atol=2e-3)


@settings(max_examples=10, deadline=None)
@given(st.floats(-1.0, 2.0))
def test_estarfm_is_exact_where_every_class_follows_the_coarse_change_by_a_factor_of_its_own(share: float) -> None:
    classes = np.indices((24, 24)).sum(axis=0) % 2  # every cell is half and half: coarse images are flat
    factor = np.array([0.6, 1.4])
    change = 10.0 * np.array([0.0, share, 1.0])[:, None, None]
    series = series_of((np.array([285.0, 300.0])[classes] + factor[classes] * change).astype(np.float32), 4)
    np.testing.assert_allclose(predict(estarfm, series), series.fine_at(TARGET), atol=1e-3)


def test_estarfm_takes_the_change_as_it_is_where_it_is_within_the_uncertainty() -> None:
    classes = np.indices((24, 24)).sum(axis=0) % 2
    change = 0.5 * np.array([0.0, 0.4, 1.0])[:, None, None]  # below sqrt(2) * 0.5 K
    fine = (np.array([285.0, 300.0])[classes] + np.array([0.6, 1.4])[classes] * change).astype(np.float32)
    answer = predict(estarfm, series_of(fine, 4))
    nearer, farther = fine[0] + 0.2, fine[2] - 0.3
    np.testing.assert_allclose(answer, 0.6 * nearer + 0.4 * farther, atol=1e-3)  # 1 / 0.2 against 1 / 0.3


@pytest.mark.parametrize("variant", ["difference", "image", "beta"])
def test_ustfm_is_exact_where_every_class_changes_as_one(variant: str) -> None:
    labels = three_classes().astype(np.int32)
    texture = textured(3) - 295.0
    signal = np.array([[280.0, 284.0, 290.0], [286.0, 293.0, 303.0], [290.0, 296.0, 309.0]])
    series = series_of((signal[:, labels] + texture).astype(np.float32), 4)
    sharp = UstfmConstants(ridge=1e-9)
    answer = ustfm(
        series.without(TARGET), series.coarse_at(TARGET), TARGET, variant=variant, labels=labels, constants=sharp
    )  # type: ignore[arg-type]
    np.testing.assert_allclose(answer, series.fine_at(TARGET), atol=2e-3)


def test_ustfm_by_ratio_is_exact_where_cells_hold_one_class() -> None:
    labels = np.repeat(np.repeat(np.arange(9).reshape(3, 3), 8, axis=0), 8, axis=1).astype(np.int32)
    signal = np.array([280.0, 284.0, 293.0])[:, None] + np.outer([0.0, 1.0, 1.6], np.arange(9))
    series = series_of((signal[:, labels] + textured(3) - 295.0).astype(np.float32), 4)
    sharp = UstfmConstants(ridge=1e-9)
    answer = ustfm(series.without(TARGET), series.coarse_at(TARGET), TARGET, labels=labels, constants=sharp)
    np.testing.assert_allclose(answer, series.fine_at(TARGET), atol=2e-3)


def test_ustfm_finds_its_own_hcrs_in_a_noiseless_class_wise_world() -> None:
    quiet = {"smooth_change_k": 0.0, "coarse_noise_k": 0.0, "fine_noise_k": 0.0}
    series = make_series(1, scale_factor=6, **quiet).series  # type: ignore[arg-type]
    target = series.fine_time[2]
    answer = predict(lambda *of: ustfm(*of, variant="beta"), series, target)
    assert np.sqrt(np.mean((answer - series.fine_at(target)) ** 2)) < 0.03


@pytest.mark.parametrize("method", METHODS)
def test_kelvin_constants_scale_with_the_quantity(method: Method) -> None:
    kelvin = world(5, cloud_share=0.1)
    reflectance = replace(
        kelvin,
        coarse=(kelvin.coarse - 250.0) * np.float32(0.01),
        fine=(kelvin.fine - 250.0) * np.float32(0.01),
        quantity="reflectance",
    )
    in_kelvin, as_reflectance = (predict(method, series, kelvin.fine_time[1]) for series in (kelvin, reflectance))
    close = np.isclose(as_reflectance / 0.01 + 250.0, in_kelvin, atol=0.01, equal_nan=True)
    assert close.mean() > 0.98  # a limit may fall between two rounded numbers


@pytest.mark.parametrize("method", WINDOW_METHODS)
@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6))
def test_gaps_spread_no_further_than_the_fine_pixels_they_hide(method: Method, seed: int) -> None:
    rng = np.random.default_rng(seed)
    fine = np.stack([textured(seed + date) for date in range(3)])
    holes = rng.random(fine.shape) < rng.uniform(0.0, 0.9)
    series = replace(series_of(fine, 4), fine=np.where(holes, np.float32(np.nan), fine))
    before, after = series.fine_at(TIMES[0]), series.fine_at(TIMES[2])
    hidden = np.isnan(before) if method in (starfm_single, fitfc) else np.isnan(before) & np.isnan(after)
    np.testing.assert_array_equal(np.isnan(predict(method, series)), hidden)


@pytest.mark.parametrize("method", METHODS)
def test_a_missing_coarse_cell_is_answered_by_its_surroundings(method: Method) -> None:
    series = world(8, coarse_noise_k=0.0, fine_noise_k=0.0, class_change=False)
    time = series.fine_time[1]
    coarse = series.coarse_at(time).copy()
    coarse[2, 3] = np.nan
    answer = method(series.without(time), coarse, time)
    whole = predict(method, series, time)
    assert np.isnan(answer).sum() == np.isnan(whole).sum()
    assert np.nanmax(np.abs(answer - whole)) < 5.0


@pytest.mark.parametrize("method", METHODS)
def test_without_any_coarse_value_there_is_no_answer(method: Method) -> None:
    series = world(8)
    time = series.fine_time[1]
    assert np.isnan(method(series.without(time), np.full_like(series.coarse_at(time), np.nan), time)).all()


@pytest.mark.parametrize("method", METHODS)
def test_inputs_are_left_alone_and_the_answer_is_float32(method: Method) -> None:
    series = world(2, cloud_share=0.1)
    before = [series.coarse.copy(), series.fine.copy()]
    assert predict(method, series, series.fine_time[1]).dtype == np.float32
    np.testing.assert_array_equal(before[0], series.coarse)
    np.testing.assert_array_equal(before[1], series.fine)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6))
def test_starfm_equals_its_slow_twin(seed: int) -> None:
    series = world(seed, fine_shape=(16, 20), cloud_share=0.15)
    np.testing.assert_allclose(
        predict(starfm, series, series.fine_time[1]), slow_starfm(series, series.fine_time[1]), atol=2e-3
    )


def slow_starfm(series: Series, time: str) -> Array:
    """Pixel by pixel, as written in the paper, with the pairs just before and after ``time``."""
    constants, radius = STARFM, window_radius(series.coarse_index)
    target = interpolate(series.coarse_at(time), series.coarse_index, order=1)
    pairs = pairs_beside(series, time)
    spectral_error = np.hypot(constants.fine_uncertainty_k, constants.coarse_uncertainty_k)
    temporal_error = np.sqrt(2) * constants.coarse_uncertainty_k
    answer = np.full(target.shape, np.nan)
    for row, col in np.ndindex(target.shape):
        own_s = known_max([abs(fine[row, col] - coarse[row, col]) for fine, coarse in pairs])
        own_t = known_max([abs(coarse[row, col] - target[row, col]) for _, coarse in pairs])
        total = weight = 0.0
        for fine, coarse in pairs:
            limit = 2 * np.nanstd(fine, dtype=np.float64) / constants.n_classes
            for i, j, distance in window(target.shape, row, col, radius):
                s, t = abs(fine[i, j] - coarse[i, j]), abs(coarse[i, j] - target[i, j])
                good = abs(fine[i, j] - fine[row, col]) <= limit
                if good and s <= own_s + spectral_error and t <= own_t + temporal_error:
                    cost = np.log(max(s / constants.unit_k, 1) + 1) * np.log(max(t / constants.unit_k, 1) + 1)
                    share = 1 / (cost * (1 + distance / radius))
                    total += share * (target[i, j] + fine[i, j] - coarse[i, j])
                    weight += share
        unchanged = [fine[row, col] for fine, coarse in pairs if abs(coarse - target)[row, col] < constants.unit_k / 2]
        if np.isfinite(unchanged).any():
            answer[row, col] = np.nanmean(unchanged)
        elif weight > 0:
            answer[row, col] = total / weight
    return answer


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6))
def test_estarfm_equals_its_slow_twin(seed: int) -> None:
    series = world(seed, fine_shape=(16, 20), cloud_share=0.15)
    np.testing.assert_allclose(
        predict(estarfm, series, series.fine_time[1]), slow_estarfm(series, series.fine_time[1]), atol=2e-3
    )


def slow_estarfm(series: Series, time: str) -> Array:
    """Pixel by pixel, as written in the paper, with R over the library and the constants in kelvin."""
    constants, radius = ESTARFM, window_radius(series.coarse_index)
    target = interpolate(series.coarse_at(time), series.coarse_index, order=1).astype(np.float64)
    pairs = [(fine.astype(np.float64), coarse.astype(np.float64)) for fine, coarse in pairs_beside(series, time)]
    limits = [2 * np.nanstd(fine) / constants.n_classes for fine, _ in pairs]
    correlation = slow_correlation(series.without(time), constants.min_dates)
    answer = np.full(target.shape, np.nan)
    for row, col in np.ndindex(target.shape):
        similar = []
        for i, j, distance in window(target.shape, row, col, radius):
            checks = [
                abs(fine[i, j] - fine[row, col]) <= limit
                for (fine, _), limit in zip(pairs, limits, strict=True)
                if np.isfinite(fine[row, col])
            ]
            if checks and all(checks):
                similar.append((i, j, distance))
        conversion = slow_conversion(pairs, similar)
        total = weight = 0.0
        for fine, coarse in pairs:
            change = target - coarse
            seen = [at for at in similar if np.isfinite(change[at[:2]])]
            if np.isfinite(fine[row, col]) and seen:
                shares = [
                    1 / (max(1 - correlation[i, j], constants.min_one_minus_r) * (1 + distance / radius))
                    for i, j, distance in seen
                ]
                local = np.average([change[at[:2]] for at in seen], weights=shares)
                around = [change[i, j] for i, j, _ in window(target.shape, row, col, radius)]
                share = 1 / max(abs(np.nanmean(around)), constants.unit_k)
                total += share * (fine[row, col] + conversion * local)
                weight += share
        if weight > 0:
            answer[row, col] = total / weight
    return answer


def slow_conversion(pairs: list[tuple[Array, Array]], similar: list[tuple[int, int, float]]) -> float:
    constants = ESTARFM
    samples = np.array([(coarse[i, j], fine[i, j]) for fine, coarse in pairs for i, j, _ in similar]).reshape(-1, 2)
    samples = samples[np.isfinite(samples).all(axis=1)]
    steps = np.array([pairs[1][1][i, j] - pairs[0][1][i, j] for i, j, _ in similar])
    steps = steps[np.isfinite(steps)]
    changed = steps.size and abs(steps.mean()) > np.sqrt(2) * constants.coarse_uncertainty_k
    if not changed or len(samples) < 3 or np.ptp(samples, axis=0).min() == 0:
        return 1.0
    fit = stats.linregress(samples[:, 0], samples[:, 1])
    trusted = fit.pvalue <= constants.max_p_value and 0 < fit.slope <= constants.max_conversion
    return float(fit.slope) if trusted else 1.0


def slow_correlation(library: Series, min_dates: int) -> Array:
    fine = library.fine
    coarse = np.stack([interpolate(library.coarse_at(t), library.coarse_index, order=1) for t in library.fine_time])
    answer = np.zeros(fine.shape[1:])
    for at in np.ndindex(answer.shape):
        known = np.isfinite(fine[(slice(None), *at)]) & np.isfinite(coarse[(slice(None), *at)])
        if known.sum() >= min_dates:
            values = [image[(slice(None), *at)][known].astype(np.float64) for image in (fine, coarse)]
            answer[at] = np.corrcoef(*values)[0, 1]
    return answer


def pairs_beside(series: Series, time: str) -> list[tuple[Array, Array]]:
    position = series.fine_time.index(time)
    beside = series.fine_time[position - 1], series.fine_time[position + 1]
    return [(series.fine_at(t), interpolate(series.coarse_at(t), series.coarse_index, order=1)) for t in beside]


def window(shape: tuple[int, ...], row: int, col: int, radius: int) -> list[tuple[int, int, float]]:
    rows = range(max(0, row - radius), min(shape[0], row + radius + 1))
    cols = range(max(0, col - radius), min(shape[1], col + radius + 1))
    return [(i, j, float(np.hypot(i - row, j - col))) for i in rows for j in cols]


def known_max(values: list[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return max(known) if known else np.inf


def test_fitfc_averages_the_most_similar_pixels_the_nearer_the_heavier() -> None:
    scene = textured(4, 8)
    scene[3, 3], scene[3, 5], scene[2, 3] = 400.0 - 60.0, 340.01, 340.02  # three alike, all others far away
    series = series_of(np.stack([scene] * 3), 4)
    answer = predict(lambda *of: fitfc(*of, constants=FitfcConstants(n_similar=3)), series)
    radius = window_radius(series.coarse_index)
    weights = 1.0 / (1.0 + np.array([0.0, 2.0, 1.0]) / radius)
    assert answer[3, 3] == pytest.approx(np.average([340.0, 340.01, 340.02], weights=weights), abs=1e-3)


def test_unmixing_is_the_bounded_least_squares_answer() -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(4), 30)
    truth = np.array([-1.0, 0.5, 2.0, 9.0])
    design, observed = sparse.csr_array(shares), shares @ truth
    np.testing.assert_allclose(unmix_bounded(design, observed, (-50, 50), 1e-12), truth, atol=1e-5)
    bounded = unmix_bounded(design, observed, (-5, 5), 1e-12)
    assert bounded[3] == pytest.approx(5.0, abs=1e-6)
    assert np.abs(bounded[:3] - truth[:3]).max() > 0.1  # the others make up for it


def test_a_class_that_no_cell_shows_has_no_answer() -> None:
    design = sparse.csr_array(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    answer = unmix_bounded(design, np.array([1.0, 3.0, np.nan]), (-5, 5), 1e-6)
    np.testing.assert_allclose(answer, [1.0, 3.0, np.nan], atol=1e-4)
    assert np.isnan(unmix_bounded(design, np.full(3, np.nan), (-5, 5), 1e-6)).all()


def test_a_triple_below_the_baseline_guard_gives_nothing() -> None:
    scene = three_classes() * 3.0 + 290.0
    series = series_of(np.stack([scene, scene + 0.5, scene + 1.0]).astype(np.float32), 4)
    for variant in ("ratio", "difference", "image", "beta"):
        answer = predict(lambda *of, v=variant: ustfm(*of, variant=v, constants=UstfmConstants(n_hcr=3)), series)
        assert np.isnan(answer).all()
    loose = UstfmConstants(n_hcr=3, guards=Guards(min_baseline_k=0.5, min_coarse_change_k=0.1))
    answer = predict(lambda *of: ustfm(*of, constants=loose), series)
    np.testing.assert_allclose(answer, series.fine_at(TARGET), atol=0.01)


@pytest.mark.parametrize("method", [starfm, estarfm, ustfm_beta])
@pytest.mark.parametrize("side", [0, -1])
def test_a_target_at_the_end_of_the_library_is_undetermined(method: Method, side: int) -> None:
    series = world(3)
    with pytest.raises(Undetermined, match=r"2020-\d\d-\d\dT"):
        predict(method, series, series.fine_time[side])


@pytest.mark.parametrize("method", METHODS)
def test_a_library_without_a_fine_date_is_undetermined(method: Method) -> None:
    series = world(3)
    with pytest.raises(Undetermined, match="fine date"):
        method(series.select_fine([]), series.coarse[0], series.coarse_time[0])


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'ratios', needed one of"):
        ustfm(world(3), world(3).coarse[0], TARGET, variant="ratios")  # type: ignore[arg-type]


def test_constants_for_another_quantity_keep_what_has_no_unit() -> None:
    scaled = STARFM.scaled(QUANTITIES["reflectance"])
    assert (scaled.n_classes, scaled.unit_k, scaled.fine_uncertainty_k) == (4, pytest.approx(1e-4), pytest.approx(5e-3))
