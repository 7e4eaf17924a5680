"""MLServer with a network: tensors of the Open Inference Protocol in and out."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from plain_onnx import open_onnx


class PlainModel(MLModel):
    """``parameters.uri`` is the graph."""

    async def load(self) -> bool:
        self._run = open_onnx(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        answer = self._run({tensor.name: NumpyCodec.decode_input(tensor) for tensor in payload.inputs})
        outputs = [NumpyCodec.encode_output(name, array) for name, array in answer.items()]
        return InferenceResponse(model_name=self.name, outputs=outputs)
