"""Every error has a status on both wires."""

import pytest

from thermoscale import errors
from thermoscale.errors import BundleError, InvalidInput, ThermoscaleError, Unavailable, Undetermined
from thermoscale.wire.status import INTERNAL, STATUS_OF_ERROR, Status, status_of

ALL_ERRORS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ThermoscaleError) and kind is not ThermoscaleError
]


@pytest.mark.parametrize("kind", ALL_ERRORS)
def test_every_error_has_a_status_of_its_own(kind):
    assert kind in STATUS_OF_ERROR
    assert status_of(kind("text")) != INTERNAL


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidInput("x"), Status(400, "INVALID_ARGUMENT")),
        (Undetermined("x"), Status(422, "FAILED_PRECONDITION")),
        (Unavailable("x"), Status(503, "UNAVAILABLE")),
        (BundleError("x"), Status(503, "UNAVAILABLE")),
        (ValueError("x"), INTERNAL),
        (KeyboardInterrupt(), INTERNAL),
    ],
)
def test_statuses_are_those_of_the_design(error, status):
    assert status_of(error) == status
