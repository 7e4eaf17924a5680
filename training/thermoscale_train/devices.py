"""Where networks train."""

import torch

from thermoscale.errors import InvalidInput

DEVICES = ("auto", "cpu", "cuda")


def torch_device(name: str) -> torch.device:
    """The device called ``name``, one of :data:`DEVICES`; ``auto`` is CUDA where there is one.

    Raises:
        InvalidInput: CUDA is asked for and there is none.
    """
    found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise InvalidInput("device is cuda, but torch finds none: use cpu or auto, or a torch built for CUDA")
    return torch.device("cuda" if found and name != "cpu" else "cpu")
