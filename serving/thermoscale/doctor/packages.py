"""Checks of the installed packages: onnxruntime, drift from the versions that were tried together."""

import importlib.metadata
import re
from pathlib import Path

from thermoscale.doctor.finding import FAIL, OK, WARN, Finding
from thermoscale.resources import resource_folder
from thermoscale.runtime.ort import CPU

CONSTRAINTS = "constraints.txt"
_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;#]+)")
_SHOWN = 8
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")


def shipped_constraints() -> Path:
    """The file that belongs to this version: in a wheel a copy, in a checkout a link to the one at its root."""
    return resource_folder("config") / CONSTRAINTS


def check_onnxruntime() -> Finding:
    """One of the two distributions, with the processor's provider."""
    installed = {name: version for name in _RUNTIMES if (version := _installed(name)) is not None}
    if len(installed) > 1:
        return Finding(
            "onnxruntime",
            FAIL,
            " and ".join(f"{name} {version}" for name, version in installed.items()) + " overwrite each other",
            "pip uninstall both, then install one: thermoscale[edge] or thermoscale[gpu]",
        )
    try:
        import onnxruntime

        providers = onnxruntime.get_available_providers()
    except ImportError as error:
        return Finding("onnxruntime", FAIL, f"cannot be imported: {error}", "pip install 'thermoscale[edge]'")
    text = ", ".join([*(f"{name} {version}" for name, version in installed.items()), *providers])
    if CPU not in providers:
        return Finding("onnxruntime", FAIL, f"{text}; needed {CPU}", "reinstall thermoscale[edge]")
    return Finding("onnxruntime", OK, text)


def check_drift(constraints: Path) -> Finding:
    """Installed packages against the exact versions in ``constraints``; those that are not installed do not count."""
    try:
        pins = read_pins(constraints)
    except OSError as error:
        return Finding("packages", WARN, f"cannot read {constraints}: {error.strerror}", "give --constraints FILE")
    versions = {name: version for name in pins if (version := _installed(name)) is not None}
    drifted = [
        f"{name} {version}, not {pins[name]}" for name, version in versions.items() if not _same(version, pins[name])
    ]
    if not drifted:
        return Finding("packages", OK, f"{len(versions)} as in {constraints.name}")
    more = f" and {len(drifted) - _SHOWN} more" if len(drifted) > _SHOWN else ""
    return Finding(
        "packages",
        WARN,
        f"{len(drifted)} of {len(versions)} differ from {constraints.name}: {'; '.join(drifted[:_SHOWN])}{more}",
        f"pip install --constraint {constraints} with your extras",
    )


def read_pins(constraints: Path) -> dict[str, str]:
    """Name -> version of each line ``name==version``."""
    lines = constraints.read_text("utf-8").splitlines()
    return {found[1]: found[2] for line in lines if (found := _PIN.match(line))}


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _same(version: str, pin: str) -> bool:
    """A local part (``2.13.0+cpu``) counts only where the pin names one."""
    return version == pin or ("+" not in pin and version.partition("+")[0] == pin)
