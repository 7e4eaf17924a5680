"""What the names of factors say: which share a stem of AMUN (a group has one meaning and one gate), which turn."""

from thermoscale.errors import InvalidInput

_PREFIXES = {
    "vegetation": ("ndvi", "evi", "lai", "fvc"),
    "reflectance": ("red", "green", "blue", "nir", "swir", "albedo", "reflectance", "ndwi", "ndbi", "mndwi"),
    "land_cover": ("land_cover", "landcover", "lc_"),
    "terrain": ("elevation", "dem", "slope", "aspect", "hillshade", "terrain"),
    "time": ("month", "hour", "day_of_year"),
}


def factor_groups(names: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    """Channels of each group, in order of first appearance; a factor of unknown meaning is a group of its own."""
    groups: dict[str, list[int]] = {}
    for channel, name in enumerate(names):
        groups.setdefault(_group_of(name), []).append(channel)
    return tuple(tuple(channels) for channels in groups.values())


def aspect_channels(names: tuple[str, ...]) -> tuple[int, int] | None:
    """Channels of the aspect's sine (eastward) and cosine (northward); None where there is no aspect.

    Raises:
        InvalidInput: one without the other, or an angle, which jumps at north.
    """
    found = {name for name in names if name.startswith("aspect")}
    if not found:
        return None
    if found != {"aspect_sin", "aspect_cos"}:
        raise InvalidInput(f"factors of the aspect are {sorted(found)}, needed both aspect_sin and aspect_cos")
    return names.index("aspect_sin"), names.index("aspect_cos")


def _group_of(name: str) -> str:
    for group, prefixes in _PREFIXES.items():
        if name.lower().startswith(prefixes):
            return group
    return f"factor {name}"
