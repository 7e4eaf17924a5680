"""What a pipeline answers to one request, before it is wrapped for the caller."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from thermoscale.arrays import Array
from thermoscale.formats import Georeference
from thermoscale.geo.alignment import Grid
from thermoscale.wire.limits import Limits
from thermoscale.wire.reply_form import ReplyForm


class Answer(NamedTuple):
    """Result arrays, facts for ``meta``, the corner (row, col) of the result on the fine grid, and its grid's place.

    ``georeference`` is that of the whole fine grid, None where the request and the bundle have none.
    """

    arrays: dict[str, Array]
    facts: dict[str, Any]
    corner: tuple[int, int]
    georeference: Georeference | None


class Requests(Protocol):
    """One bundle's pipeline, reached with the named values of a request."""

    def answer(
        self, values: Mapping[str, Any], grids: Mapping[str, Grid], limits: Limits, form: ReplyForm | None
    ) -> Answer:
        """Check the values strictly, then the size of work and reply, then predict.

        Args:
            grids: of the request's GeoTIFFs, by array name.
            form: of a reply on the wire; None: it stays in memory, and the caller may wait for it.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """What this bundle can answer, as JSON: ``footprint``, ``grid``, ``library_dates``, ``factors``, ``modes``.

        The keys are in ``docs/wire-format.md``; what does not apply to the pipeline is None or empty.
        """
        ...
