"""Which factors share a stem of AMUN: a group has one meaning and one gate."""

_PREFIXES = {
    "vegetation": ("ndvi", "evi", "lai", "fvc"),
    "reflectance": ("red", "green", "blue", "nir", "swir", "albedo", "reflectance", "ndwi", "ndbi", "mndwi"),
    "land_cover": ("land_cover", "landcover", "lc_"),
    "terrain": ("elevation", "dem", "slope", "aspect", "hillshade", "terrain"),
}


def factor_groups(names: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    """Channels of each group, in order of first appearance; a factor of unknown meaning is a group of its own."""
    groups: dict[str, list[int]] = {}
    for channel, name in enumerate(names):
        groups.setdefault(_group_of(name), []).append(channel)
    return tuple(tuple(channels) for channels in groups.values())


def _group_of(name: str) -> str:
    for group, prefixes in _PREFIXES.items():
        if name.lower().startswith(prefixes):
            return group
    return f"factor {name}"
