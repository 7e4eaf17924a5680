"""What one check has found."""

from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: of the check.
        state: ``ok``; ``warn``: it works, but not as it should; ``fail``: a server will not work.
        text: what was found, against what is needed.
        next_step: what to do; empty where there is nothing to do.
    """

    name: str
    state: str
    text: str
    next_step: str = ""

    def __post_init__(self) -> None:
        if self.state not in (OK, WARN, FAIL) or (self.state == OK) == bool(self.next_step):
            raise ValueError(f"{self}: needed one of ok, warn, fail, and a next step for the last two only")
