"""Rows for people: a Markdown table."""

from collections.abc import Mapping, Sequence
from typing import Any

_COLUMNS = ("drill", "sent", "right", "right errors", "wrong", "lost", "back idle", "back loaded", "deaths", "")


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of :meth:`drills.stage.Row.to_json`; deaths are of workers that no drill has killed."""
    lines = [_COLUMNS, ("---",) * len(_COLUMNS), *map(_cells, rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    if row["skipped"]:
        return (row["drill"], *[""] * (len(_COLUMNS) - 2), f"skipped: {row['skipped']}")
    errors = ", ".join(f"{count} {label}" for label, count in sorted(row["errors"].items())) or "0"
    undeserved = [f"undeserved: {count} {label}" for label, count in row["undeserved_errors"].items()]
    seconds = [_seconds(row["back_s"], load) for load in ("idle", "load")]
    deaths = "" if row["worker_deaths"] is None else str(row["worker_deaths"])
    counts = [str(row[name]) for name in ("sent", "right")] + [errors] + [str(row[name]) for name in ("wrong", "lost")]
    remarks = "; ".join(
        ["passed" if row["passed"] else "FAILED", *undeserved, *row["defects"], *filter(None, [row["note"]])]
    )
    return (row["drill"], *counts, *seconds, deaths, remarks)


def _seconds(back_s: Mapping[str, float | None], load: str) -> str:
    if load not in back_s:
        return ""
    return "never" if back_s[load] is None else f"{back_s[load]:.1f} s"
