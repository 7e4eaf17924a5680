"""Every error that thermoscale raises on purpose.

    ThermoscaleError
      InvalidInput     the caller sent something we can name: 400 / INVALID_ARGUMENT
      Undetermined     the request is fine, the data do not determine an answer: 422 / FAILED_PRECONDITION
      BundleError      the bundle is broken or not for us: never ready
      Unavailable      try again later: 503 / UNAVAILABLE

A message says what was got, what was needed and, where there is one, the next step.
The status codes of both wires are in :mod:`thermoscale.wire.status`.
"""


class ThermoscaleError(Exception):
    """Base of all errors raised on purpose.

    Attributes:
        request_id: of the request that failed, where a client raises it.
    """

    request_id: str | None = None


class InvalidInput(ThermoscaleError):
    """The caller sent something we can name."""


class Undetermined(ThermoscaleError):
    """The request is well formed, but its data do not determine an answer."""


class BundleError(ThermoscaleError):
    """A bundle is broken, incomplete or made for something else."""


class Unavailable(ThermoscaleError):
    """A resource is missing for now; the same request may succeed later.

    Attributes:
        retry_after_s: seconds after which a client finds it worth sending again; None: it does not.
        may_have_begun: the server may have worked on it, and may have come to harm by it.
    """

    retry_after_s: float | None = None
    may_have_begun = False
