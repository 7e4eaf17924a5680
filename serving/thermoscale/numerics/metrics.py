"""Scores of a prediction against the truth.

Every score is taken over the pixels where the truth is valid. A prediction must be complete there, so that
refusing pixels never pays: gaps are filled from ``fallback`` (interpolated coarse values) before scoring.
"""

import numpy as np

from thermoscale.arrays import Array, BoolArray, FloatArray, IntArray
from thermoscale.errors import InvalidInput
from thermoscale.numerics.grids import area_mean

PSNR_RANGE = 400.0
"""Peak of the I-USTFM paper, K: PSNR = 20 log10(400 / RMSE)."""
SSIM_WINDOW = 7
SSIM_MIN_SHARE = 0.5
SSIM_K1, SSIM_K2 = 0.01, 0.03


def score(
    prediction: Array,
    truth: Array,
    *,
    fallback: Array | None = None,
    coarse: Array | None = None,
    coarse_index: IntArray | None = None,
    spread: Array | None = None,
    psnr_range: float = PSNR_RANGE,
) -> dict[str, float]:
    """All scores of FORMATS evaluate for one image, but for ``seconds``.

    Args:
        prediction: [H, W]; NaN = the method gave no value.
        truth: [H, W]; NaN = not scored.
        fallback: [H, W], fills the gaps of ``prediction``; needed where it has any.
        coarse: [h, w] values of the coarse image, for ``closure``, with its ``coarse_index`` [H, W].
        spread: [H, W] 1-sigma of the prediction, for ``spread_coverage`` and ``crps``.
        psnr_range: peak of PSNR, in the unit of the images.

    Returns:
        One number per key; NaN where it is not defined or its input is absent, and an infinite ``psnr`` where
        the prediction is perfect (JSON has neither: write null).

    Raises:
        InvalidInput: shapes differ, no valid truth, or a gap that nothing fills.
    """
    filled = prediction if fallback is None else np.where(np.isnan(prediction), fallback, prediction)
    return {
        "rmse": rmse(filled, truth),
        "rmse_valid": rmse_valid(prediction, truth),
        "mae": mae(filled, truth),
        "bias": bias(filled, truth),
        "ubrmse": ubrmse(filled, truth),
        "cc": cc(filled, truth),
        "ssim": ssim(filled, truth),
        "psnr": psnr(filled, truth, psnr_range=psnr_range),
        "psnr_range": float(psnr_range),
        "edge": edge(filled, truth),
        "closure": np.nan if coarse is None or coarse_index is None else closure(filled, coarse, coarse_index),
        "coverage": coverage(prediction, truth),
        "spread_coverage": np.nan if spread is None else spread_coverage(prediction, spread, truth),
        "crps": np.nan if spread is None else crps_gaussian(prediction, spread, truth),
    }


def rmse(prediction: Array, truth: Array) -> float:
    """Root of the mean squared error, unit of the images."""
    return float(np.sqrt(np.mean(_errors(prediction, truth) ** 2)))


def rmse_valid(prediction: Array, truth: Array) -> float:
    """RMSE over the pixels that the method answered; NaN where it answered none."""
    answered = np.where(np.isnan(prediction), np.nan, truth)
    return rmse(prediction, answered) if coverage(prediction, truth) > 0 else float("nan")


def mae(prediction: Array, truth: Array) -> float:
    """Mean absolute error."""
    return float(np.mean(np.abs(_errors(prediction, truth))))


def bias(prediction: Array, truth: Array) -> float:
    """Mean of prediction - truth."""
    return float(np.mean(_errors(prediction, truth)))


def ubrmse(prediction: Array, truth: Array) -> float:
    """RMSE after the bias is taken away: the standard deviation of the error."""
    return float(np.std(_errors(prediction, truth)))


def cc(prediction: Array, truth: Array) -> float:
    """Pearson's correlation; NaN where one of the two is constant."""
    _errors(prediction, truth)
    valid = ~np.isnan(truth)
    a, b = (np.asarray(image[valid], np.float64) for image in (prediction, truth))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    return float(np.clip((a @ b) / np.sqrt((a @ a) * (b @ b)), -1, 1))


def psnr(prediction: Array, truth: Array, *, psnr_range: float = PSNR_RANGE) -> float:
    """Peak signal to noise ratio, 20 log10(psnr_range / RMSE), dB; infinite for a perfect prediction."""
    error = rmse(prediction, truth)
    return float(20 * np.log10(psnr_range / error)) if error > 0 else float("inf")


def ssim(prediction: Array, truth: Array) -> float:
    """Mean structural similarity (Wang et al. 2004) in uniform 7 x 7 windows, -1 to 1.

    K1 = 0.01, K2 = 0.03, sample (n - 1) variances, windows entirely inside the image. The range L is that of the
    truth, max - min of its valid pixels (1 where it is flat), so that every method is judged by one range.
    Gaps: a window counts its valid pixels only, and is used where its centre and at least half of it are valid.
    Without gaps this is skimage's structural_similarity(..., data_range=max - min).

    Returns:
        NaN where there is no such window.
    """
    _errors(prediction, truth)
    valid = ~np.isnan(truth)
    half = SSIM_WINDOW // 2
    n = _window_sums(valid)
    used = (n >= SSIM_MIN_SHARE * SSIM_WINDOW**2) & valid[half:-half, half:-half] if n.size else n > 0
    if not used.any():
        return float("nan")
    n, middle = n[used], float(np.mean(truth[valid], dtype=np.float64))
    # Variances do not change with the origin; one near the data keeps them from drowning in rounding.
    a, b = (np.where(valid, np.asarray(image, np.float64) - middle, 0) for image in (prediction, truth))
    mean_a, mean_b = _window_sums(a)[used] / n, _window_sums(b)[used] / n
    var_a, var_b, cov = (
        (_window_sums(x * y)[used] - n * mean_x * mean_y) / (n - 1)
        for x, y, mean_x, mean_y in ((a, a, mean_a, mean_a), (b, b, mean_b, mean_b), (a, b, mean_a, mean_b))
    )
    span = float(np.ptp(truth[valid])) or 1.0
    c1, c2 = (SSIM_K1 * span) ** 2, (SSIM_K2 * span) ** 2
    mean_a, mean_b = mean_a + middle, mean_b + middle
    likeness = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return float(np.mean(likeness * (2 * cov + c2) / (var_a + var_b + c2)))


def edge(prediction: Array, truth: Array) -> float:
    """Edge strength against the truth's: (R_prediction - R_truth) / (R_prediction + R_truth), -1 to 1.

    R is the sum of the Roberts cross |x[i, j] - x[i+1, j+1]| + |x[i, j+1] - x[i+1, j]| over all 2 x 2 blocks with
    valid truth. Negative = smoothed, 0 = as sharp as the truth, positive = noisier. The normalised difference is
    customary in fusion studies; summing before dividing is ours, so that flat blocks do not count.

    Returns:
        0 where both are flat, NaN where no 2 x 2 block is valid.
    """
    _errors(prediction, truth)
    edges = _roberts(truth)
    valid = ~np.isnan(edges)
    if not valid.any():
        return float("nan")
    r_truth, r_prediction = edges[valid].sum(), _roberts(prediction)[valid].sum()
    return float((r_prediction - r_truth) / ((r_prediction + r_truth) or 1))


def closure(prediction: Array, coarse: Array, coarse_index: IntArray) -> float:
    """RMSE of coarse - mean of the prediction over each cell; NaN where no cell can be compared."""
    residual = np.asarray(coarse, np.float64) - area_mean(prediction, coarse_index, (coarse.shape[0], coarse.shape[1]))
    compared = residual[~np.isnan(residual)]
    return float(np.sqrt(np.mean(compared**2))) if compared.size else float("nan")


def coverage(prediction: Array, truth: Array) -> float:
    """Share of the valid truth that has a prediction, 0 to 1."""
    valid = _valid_truth(prediction, truth)
    return float(np.mean(~np.isnan(prediction[valid])))


def spread_coverage(prediction: Array, spread: Array, truth: Array) -> float:
    """Share of pixels whose truth lies within one ``spread`` of the prediction: 0.683 where 1 sigma is honest.

    Over the pixels where all three are valid; NaN where there are none.
    """
    error, sigma = _errors_with_spread(prediction, spread, truth)
    return float(np.mean(np.abs(error) <= sigma)) if error.size else float("nan")


def crps_gaussian(prediction: Array, spread: Array, truth: Array) -> float:
    """Mean continuous ranked probability score of N(prediction, spread^2), unit of the images; lower is better.

    Gneiting & Raftery 2007, equation 21; with spread 0 it is the absolute error. Over the pixels where all three
    are valid; NaN where there are none.
    """
    error, sigma = _errors_with_spread(prediction, spread, truth)
    if not error.size:
        return float("nan")
    z = np.divide(np.abs(error), sigma, out=np.zeros_like(error), where=sigma > 0)
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    crps = sigma * (z * _erf(z / np.sqrt(2)) + 2 * density - 1 / np.sqrt(np.pi))
    return float(np.mean(np.where(sigma > 0, crps, np.abs(error))))


def _valid_truth(prediction: Array, truth: Array) -> BoolArray:
    if prediction.shape != truth.shape:
        raise InvalidInput(f"prediction has shape {list(prediction.shape)}, truth {list(truth.shape)}: needed the same")
    valid: BoolArray = ~np.isnan(truth)
    if not valid.any():
        raise InvalidInput("truth has no valid pixel: there is nothing to score")
    return valid


def _errors(prediction: Array, truth: Array) -> Array:
    """prediction - truth at the valid truth, [n] float64."""
    valid = _valid_truth(prediction, truth)
    errors = prediction[valid].astype(np.float64) - truth[valid]
    gaps = int(np.isnan(errors).sum())
    if gaps:
        raise InvalidInput(f"prediction has {gaps} gaps where the truth is valid: fill them before scoring")
    return errors


def _errors_with_spread(prediction: Array, spread: Array, truth: Array) -> tuple[Array, Array]:
    """Errors and spreads [n] float64 where all three are valid."""
    error, sigma = (prediction - truth.astype(np.float64)).ravel(), spread.astype(np.float64).ravel()
    valid = ~np.isnan(error + sigma)
    return error[valid], sigma[valid]


def _window_sums(image: Array) -> Array:
    """Sums over all 7 x 7 windows that lie inside ``image`` [H, W]: [H - 6, W - 6] float64, empty if smaller."""
    sums = np.asarray(image, np.float64)
    for axis in (0, 1):
        running = np.cumsum(np.insert(sums, 0, 0, axis=axis), axis=axis)
        n = max(running.shape[axis] - SSIM_WINDOW, 0)
        sums = np.take(running, range(SSIM_WINDOW, SSIM_WINDOW + n), axis) - np.take(running, range(n), axis)
    return sums


def _roberts(image: Array) -> Array:
    """Strength of the Roberts cross, [H - 1, W - 1] float64."""
    x = np.asarray(image, np.float64)
    return np.abs(x[:-1, :-1] - x[1:, 1:]) + np.abs(x[:-1, 1:] - x[1:, :-1])


def _erf(x: Array) -> Array:
    """Error function for x >= 0, within 1.5e-7 (Abramowitz & Stegun 1964, 7.1.26): numpy has none."""
    t = 1 / (1 + 0.3275911 * x)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf: FloatArray = 1 - series * np.exp(-(x**2))
    return erf
