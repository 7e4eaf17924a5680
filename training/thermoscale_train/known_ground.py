"""Which scenes lie on ground that a bundle was trained on. Known by content, not by id: ids repeat between files."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np

from thermoscale.formats import Pairs
from thermoscale_train.data.split import ground_groups


def scene_digests(pairs: Pairs) -> tuple[str, ...]:
    """16 hexadecimal digits per scene, from its fine image: the same in every file and in both experiments."""
    if pairs.fine is None:
        return ()
    return tuple(sha256(np.ascontiguousarray(fine, "<f4").tobytes()).hexdigest()[:16] for fine in pairs.fine)


def known_ground(pairs: Pairs, training: Mapping[str, Any]) -> dict[int, str]:
    """Rows of ``pairs`` to leave out when a bundle is judged, each with the reason.

    Args:
        training: of the bundle's manifest; ``train_scenes`` and ``valid_scenes`` hold the digests of the scenes that
            took part in the fit.
    """
    seen = {*training.get("train_scenes", ()), *training.get("valid_scenes", ())}
    grounds = ground_groups(pairs)
    known = {int(ground) for ground, digest in zip(grounds, scene_digests(pairs), strict=True) if digest in seen}
    return {
        row: "its ground took part in the training of the bundle"
        for row, ground in enumerate(grounds)
        if int(ground) in known
    }
