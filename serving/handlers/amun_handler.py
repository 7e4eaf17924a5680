"""What TorchServe imports from the AMUN archive, by the name of this file. It wants exactly one class here."""

from thermoscale.torchserve import BundleHandler


class AmunHandler(BundleHandler):
    """Serves an AMUN bundle."""

    pipeline = "amun"
