"""Write the requests that MLServer takes: ``mlserver_requests.py MODEL ARRAYS.npz FOLDER``.

``request.grpc`` is a ModelInferRequest with raw tensors, the densest form; ``request.json`` the same as JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np
from mlserver.codecs import NumpyCodec
from mlserver.grpc import converters
from mlserver.types import InferenceRequest


def main() -> None:
    model, arrays, folder = sys.argv[1], np.load(sys.argv[2]), Path(sys.argv[3])
    inputs = [NumpyCodec.encode_input(name, arrays[name]) for name in arrays.files]
    request = InferenceRequest(inputs=inputs)
    (folder / "request.json").write_text(json.dumps(request.model_dump(mode="json", exclude_none=True)))
    # Only now: it takes the data out of ``request``.
    message = converters.ModelInferRequestConverter.from_types(
        request, model_name=model, model_version="", use_raw=True
    )
    (folder / "request.grpc").write_bytes(message.SerializeToString())


if __name__ == "__main__":
    main()
