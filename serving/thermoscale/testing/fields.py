"""Random fields, blocks and clouds of which synthetic worlds are made. Numpy only, deterministic from the generator."""

import numpy as np

from thermoscale.arrays import Array, BoolArray, FloatArray, IntArray


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], length_px: float) -> Array:
    """A random field ``[H, W]`` float64 of mean 0 and variance 1, correlated over about ``length_px`` pixels."""
    pad = int(4 * length_px)  # the transform is periodic: cut the seam away
    height, width = shape[0] + pad, shape[1] + pad
    rows, cols = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    low_pass = np.exp(-2.0 * (np.pi * length_px) ** 2 * (rows**2 + cols**2) / 4.0)
    noise = np.fft.rfft2(rng.standard_normal((height, width)))
    field: Array = np.fft.irfft2(noise * low_pass, s=(height, width))[: shape[0], : shape[1]]
    field -= field.mean()
    field /= max(float(field.std()), 1e-12)
    return field


def patches(rng: np.random.Generator, shape: tuple[int, int], n_classes: int, length_px: float) -> IntArray:
    """A land-cover map ``[H, W]`` int32 with labels 0 ... n_classes - 1 in patches of about ``length_px`` pixels."""
    fields = np.stack([smooth_field(rng, shape, length_px) for _ in range(n_classes)])
    labels: IntArray = fields.argmax(axis=0).astype(np.int32)
    return labels


def block_mean(fine: Array, scale_factor: int) -> FloatArray:
    """Mean of ``fine`` ``[..., H, W]`` over square blocks, ``[..., h, w]`` float32; NaN in a block makes it NaN.

    Written here and not taken from numerics.grids, so that a world's truth does not rest on the code it tests.
    """
    *front, height, width = fine.shape
    blocks = fine.reshape(*front, height // scale_factor, scale_factor, width // scale_factor, scale_factor).astype(
        np.float64
    )
    mean: FloatArray = blocks.mean(axis=(-3, -1)).astype(np.float32)
    return mean


def shifted(fine: Array, shift_px: tuple[int, int]) -> Array:
    """``fine`` ``[..., H, W]`` as a sensor sees it whose grid is off by ``shift_px`` (rows, columns); edges repeat."""
    height, width = fine.shape[-2:]
    rows = np.clip(np.arange(height) + shift_px[0], 0, height - 1)
    cols = np.clip(np.arange(width) + shift_px[1], 0, width - 1)
    return fine[..., rows[:, None], cols[None, :]]


def cloud_map(rng: np.random.Generator, shape: tuple[int, int], share: float, length_px: float) -> BoolArray:
    """Where clouds are, ``[H, W]``: about ``share`` of the pixels, in patches. Share 0 is a clear sky."""
    field = smooth_field(rng, shape, length_px)
    clouds: BoolArray = field < np.quantile(field, share) if share > 0.0 else np.zeros(shape, bool)
    return clouds
