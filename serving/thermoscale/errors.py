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
    """Base of all errors raised on purpose."""


class InvalidInput(ThermoscaleError):
    """The caller sent something we can name."""


class Undetermined(ThermoscaleError):
    """The request is well formed, but its data do not determine an answer."""


class BundleError(ThermoscaleError):
    """A bundle is broken, incomplete or made for something else."""


class Unavailable(ThermoscaleError):
    """A resource is missing for now; the same request may succeed later."""
