"""Call a running server over REST (standard library and numpy only) or gRPC (extra ``client``: grpcio and protobuf).

Both clients take and give what :meth:`thermoscale.service.Service.predict` takes and gives, and raise the same errors,
with the id of the request as their ``request_id``. Threads may share a client; each process needs its own.
Examples: ``docs/client.md``.
"""

from thermoscale.client.base import MAX_REPLY_BYTES, RETRIES, TIMEOUT_S, Client, decode_reply
from thermoscale.client.grpc import GrpcClient
from thermoscale.client.rest import RestClient

__all__ = ["MAX_REPLY_BYTES", "RETRIES", "TIMEOUT_S", "Client", "GrpcClient", "RestClient", "decode_reply"]
