"""How long a call may take, and what is sent again.

A prediction changes nothing on the server, so a second one does no harm. It is sent again, while the deadline allows,

- where the server cannot have begun with it: nothing listened there, or the queue was full;
- where the server or its front says when to come back (Retry-After);
- once where the server may have begun with it: the connection broke, or the worker died. Not more often, since the
  request itself may have been the cause.

Nothing else is: a request that the server refused, or whose time is over, would only meet the same end.
"""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from thermoscale.errors import Unavailable

BACKOFF_S = 0.1
"""Wait before the second attempt, unless the server asks for more; doubled for each further one."""

_T = TypeVar("_T")


class Deadline:
    """A moment ``timeout_s`` seconds from now."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._end = time.monotonic() + timeout_s

    def left_s(self) -> float:
        """Seconds until then.

        Raises:
            Unavailable: it has passed.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise Unavailable(f"no answer within {self.timeout_s:g} s")
        return left


def attempt(call: Callable[[], _T], deadline: Deadline, retries: int) -> _T:
    """``call``, again up to ``retries`` times where its :class:`Unavailable` has a ``retry_after_s``.

    Up to half as long again is added to each wait by chance, so that many clients do not come back at once. A wait that
    would pass the deadline is not begun: the error is raised at once.
    """
    begun = False
    for number in range(retries):
        try:
            return call()
        except Unavailable as error:
            if error.retry_after_s is None or (begun and error.may_have_begun):
                raise
            wait_s = max(error.retry_after_s, BACKOFF_S) * 2**number * random.uniform(1.0, 1.5)
            if wait_s >= deadline.left_s():
                raise
            begun |= error.may_have_begun
        time.sleep(wait_s)
    return call()
