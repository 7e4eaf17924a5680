"""How often a server may end before its launcher gives up."""

STEADY_S = 60.0
"""A server that lived so long was no early death."""

PAUSES_S = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Before each start that follows one early death after the other."""


class Restarts:
    """Counts the early deaths in a row."""

    def __init__(self) -> None:
        self._early = 0

    def pause_s(self, lived_s: float) -> float | None:
        """Seconds to wait before the next start; None: it ended too often.

        Args:
            lived_s: since the last start.
        """
        if lived_s >= STEADY_S:
            self._early = 0
        if self._early == len(PAUSES_S):
            return None
        self._early += 1
        return PAUSES_S[self._early - 1]
