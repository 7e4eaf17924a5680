"""TorchServe with a network and nothing else."""

import logging
from pathlib import Path
from typing import Any

from plain_onnx import answer_npz, open_onnx


class PlainHandler:
    """TorchServe wants exactly one class here."""

    def initialize(self, context: Any) -> None:
        logging.getLogger().setLevel(logging.WARNING)
        self._run = open_onnx(str(Path(context.system_properties["model_dir"], "network.onnx")))

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        context.set_response_content_type(0, "application/octet-stream")
        return [answer_npz(self._run, bytes(data[0]["body"]))]
