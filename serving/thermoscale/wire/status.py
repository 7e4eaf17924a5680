"""The status that each error has on both wires."""

from dataclasses import dataclass

from thermoscale.errors import BundleError, InvalidInput, Unavailable, Undetermined


@dataclass(frozen=True)
class Status:
    """An HTTP status code and the name of the gRPC status code that TorchServe gives for it."""

    http: int
    grpc: str


INTERNAL = Status(500, "INTERNAL")

STATUS_OF_ERROR: dict[type[Exception], Status] = {
    InvalidInput: Status(400, "INVALID_ARGUMENT"),
    Undetermined: Status(422, "FAILED_PRECONDITION"),
    BundleError: Status(503, "UNAVAILABLE"),
    Unavailable: Status(503, "UNAVAILABLE"),
}


def status_of(error: BaseException) -> Status:
    """The status of ``error``; anything that we do not raise on purpose is :data:`INTERNAL`."""
    for kind, status in STATUS_OF_ERROR.items():
        if isinstance(error, kind):
            return status
    return INTERNAL
