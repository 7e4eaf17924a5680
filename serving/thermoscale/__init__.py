"""Fine land-surface temperature: the served computation, without torch.

from thermoscale import open_bundle
service = open_bundle("exported/amun/1.0.0")
answer = service.predict({"coarse": coarse, "factors": factors})
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thermoscale.service import Service, open_bundle

__all__ = ["Service", "open_bundle"]


def __getattr__(name: str) -> Any:
    """Import the service on first use, so that ``thermoscale.numerics`` alone costs numpy alone."""
    if name in __all__:
        from thermoscale import service

        return getattr(service, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
