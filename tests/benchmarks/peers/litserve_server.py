"""LitServe with networks: ``litserve_server.py PORT NAME=PATH ...``; bodies are .npz.

A body that is neither JSON nor a form reaches ``decode_request`` only if its parameter is declared as bytes.
"""

import sys
from typing import Annotated, Any

import litserve
from fastapi import Body, Response
from plain_onnx import answer_npz, open_onnx


class PlainApi(litserve.LitAPI):
    """One network at /predictions/NAME."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(api_path=f"/predictions/{name}")
        self._path = path

    def setup(self, _device: str) -> None:
        self._run = open_onnx(self._path)

    def decode_request(self, request: Annotated[bytes, Body()]) -> bytes:
        return request

    def predict(self, body: bytes) -> bytes:
        return answer_npz(self._run, body)

    def encode_response(self, output: bytes) -> Response:
        return Response(output, media_type="application/octet-stream")


def main() -> None:
    port, *models = sys.argv[1:]
    apis: list[Any] = [PlainApi(*model.split("=", 1)) for model in models]
    server = litserve.LitServer(apis, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
