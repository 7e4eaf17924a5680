"""Fine land-surface temperature: the served computation, without torch."""
