"""Train AMUN, DyNet and RatioNet and export them as bundles."""
