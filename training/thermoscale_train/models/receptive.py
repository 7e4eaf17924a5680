"""How far AMUN looks: the receptive radius of one output pixel, by interval arithmetic through its layers."""

from thermoscale_train.models.amun import LEVEL_PATCHES, AmunNetConfig

Interval = tuple[int, int]

DENSE_LAYERS = 4


def receptive_radius(config: AmunNetConfig) -> int:
    """Fine pixels, in the worst of all positions relative to the pooling grid, that an output reads to either side."""
    width = 0
    for start in range(config.multiple_px):
        low, high = _whole(config, (start, start))
        width = max(width, start - low, high - start)
    return width


def halo_px(config: AmunNetConfig) -> int:
    """The smallest halo that makes tiles exact: the radius, rounded up to a legal tile corner."""
    return -(-receptive_radius(config) // config.multiple_px) * config.multiple_px


def _whole(config: AmunNetConfig, output: Interval) -> Interval:
    """Fine pixels; in between, in patches."""
    patch = config.patch_px
    merged = _conv(_level(config.depth, (output[0] // patch, output[1] // patch)), layers=DENSE_LAYERS)
    attended = _join(merged, _token(merged, config.pool // patch))
    first, last = _conv(attended, layers=1 + LEVEL_PATCHES)  # the stems and the level of their inputs
    return first * patch, last * patch + patch - 1


def _level(depth: int, output: Interval) -> Interval:
    """What ``depth`` levels of the U-Net read of their input, to give ``output`` (pixels of this level)."""
    if depth == 0:
        return _conv(output, layers=2)
    joined = _conv(output, layers=DENSE_LAYERS)
    below = _level(depth - 1, (joined[0] // 2, joined[1] // 2))
    return _conv(_join(joined, (2 * below[0], 2 * below[1] + 1)), layers=1)


def _token(output: Interval, pool: int) -> Interval:
    """Bilinear interpolation reads one token further than the one a pixel lies in, on its nearer side."""
    half = pool // 2
    first, last = (output[0] - half) // pool, -((-output[1] - 1 + half) // pool)
    return first * pool, last * pool + pool - 1


def _conv(output: Interval, layers: int) -> Interval:
    return output[0] - layers, output[1] + layers


def _join(a: Interval, b: Interval) -> Interval:
    return min(a[0], b[0]), max(a[1], b[1])
