"""The two messages of TorchServe's gRPC inference service, described here so that no generated code is needed.

Source: ``inference.proto`` inside TorchServe's frontend jar, the fields that a prediction uses.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

from thermoscale.errors import Unavailable

PACKAGE = "org.pytorch.serve.grpc.inference"
PREDICTIONS_METHOD = f"/{PACKAGE}.InferenceAPIsService/Predictions"
NEEDS_CLIENT_EXTRA = "gRPC needs grpcio and protobuf: pip install 'thermoscale[client]'"


@dataclass(frozen=True)
class Messages:
    """``request(model_name, model_version, input)`` and ``response`` with the bytes ``prediction``."""

    request: Any
    response: Any


@cache
def load_messages() -> Messages:
    """The message classes, built once in a descriptor pool of their own.

    Raises:
        Unavailable: protobuf is missing.
    """
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError as error:
        raise Unavailable(NEEDS_CLIENT_EXTRA) from error
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_describe(descriptor_pb2))

    def message(name: str) -> Any:
        return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))

    return Messages(message("PredictionsRequest"), message("PredictionResponse"))


def _describe(pb2: Any) -> Any:
    """The file descriptor; ``map<string, bytes>`` is a repeated entry message on the wire."""
    field = pb2.FieldDescriptorProto
    file = pb2.FileDescriptorProto(name="thermoscale_inference.proto", package=PACKAGE, syntax="proto3")
    request = file.message_type.add(name="PredictionsRequest")
    entry = request.nested_type.add(name="InputEntry", options=pb2.MessageOptions(map_entry=True))
    response = file.message_type.add(name="PredictionResponse")
    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    request.field.add(name="model_name", number=1, type=field.TYPE_STRING, label=one)
    request.field.add(name="model_version", number=2, type=field.TYPE_STRING, label=one)
    entry_type = f".{PACKAGE}.PredictionsRequest.InputEntry"
    request.field.add(name="input", number=3, type=field.TYPE_MESSAGE, label=many, type_name=entry_type)
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=one)
    entry.field.add(name="value", number=2, type=field.TYPE_BYTES, label=one)
    response.field.add(name="prediction", number=1, type=field.TYPE_BYTES, label=one)
    return file
