"""What TorchServe imports from the I-USTFM archive, by the name of this file. It wants exactly one class here."""

from thermoscale.torchserve import BundleHandler


class IustfmHandler(BundleHandler):
    """Serves an I-USTFM bundle."""

    pipeline = "iustfm"
