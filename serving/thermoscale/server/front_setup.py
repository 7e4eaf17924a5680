"""What the front is given: an nginx with njs, its configuration, the pages of its refusals, its keys."""

import grp
import os
import pwd
import re
import shutil
import string
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from thermoscale.errors import InvalidInput, Unavailable
from thermoscale.resources import resource_folder
from thermoscale.server.setup import MAX_BYTES

NEEDS_NGINX = "the front needs nginx with njs: apt-get install nginx libnginx-mod-http-js"
MAX_REQUEST_BYTES = MAX_BYTES - 8 * 2**20
"""Between the service's limit, which is refused in its own words, and TorchServe's, which answers with none."""

PATIENCE_S = 130
"""For an answer: above TorchServe's own ``default_response_timeout``."""

_MODULE = "ngx_http_js_module.so"
_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_KEY_LINE = re.compile(r"[0-9a-f]{64}[ \t]+[A-Za-z0-9._-]{1,64}", re.ASCII)


@dataclass(frozen=True)
class FrontLimits:
    """What one client may do; a client is a key, or an address without a valid key. Each is at least 1.

    Attributes:
        rate_per_s: requests a second in the long run.
        burst: requests at once beyond that.
        open_requests: requests at a time.
        header_timeout_s: seconds for the headers of a request.
        body_timeout_s: seconds between two pieces of its body, or of the answer to a slow reader.
    """

    rate_per_s: int = 50
    burst: int = 200
    open_requests: int = 256
    header_timeout_s: int = 10
    body_timeout_s: int = 20

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise InvalidInput(f"{field.name} is {getattr(self, field.name)}, needed at least 1")


@dataclass(frozen=True)
class Tls:
    """PEM files: the certificate with its chain, and the private key."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Nginx:
    """An nginx and its njs module; ``module`` is None where njs is built in."""

    program: Path
    module: Path | None


@dataclass(frozen=True)
class Refusal:
    """What the front answers by itself: over REST ``http`` and JSON like TorchServe's, over gRPC ``grpc``."""

    http: int
    grpc: int
    kind: str
    message: str


_TRY_LATER = "try again later"
REFUSALS: dict[int, Refusal] = {
    400: Refusal(400, 13, "BadRequest", "this is not a valid HTTP request"),
    401: Refusal(401, 16, "Unauthenticated", "no valid key, needed the header Authorization: Bearer KEY"),
    404: Refusal(404, 12, "NotFound", "no such address, needed /predictions/MODEL, /v1/models or /v1/models/MODEL"),
    405: Refusal(405, 12, "MethodNotAllowed", "needed POST for /predictions, GET for /v1/models"),
    413: Refusal(
        413, 8, "RequestTooLarge", f"the request is larger than {MAX_REQUEST_BYTES} bytes: send a smaller scene"
    ),
    414: Refusal(414, 13, "AddressTooLong", "the address is longer than 8 kB"),
    429: Refusal(429, 8, "TooManyRequests", "more requests than this client may send, try again in a second"),
    494: Refusal(431, 13, "HeaderTooLarge", "the headers are larger than 8 kB a line or 32 kB together"),
    497: Refusal(400, 13, "BadRequest", "this port speaks TLS, needed https://"),
    500: Refusal(503, 14, "FrontUnavailable", f"the front cannot work, its error log says why; {_TRY_LATER}"),
    502: Refusal(503, 14, "ServerUnavailable", f"the server behind the front does not answer; {_TRY_LATER}"),
    503: Refusal(503, 14, "ServerUnavailable", f"the server behind the front does not answer; {_TRY_LATER}"),
    504: Refusal(504, 4, "Timeout", f"no answer after {PATIENCE_S} s"),
}
"""nginx's own status -> what the client gets. gRPC: 4 DEADLINE_EXCEEDED, 8 RESOURCE_EXHAUSTED, 12 UNIMPLEMENTED,
13 INTERNAL, 14 UNAVAILABLE, 16 UNAUTHENTICATED."""


class _Template(string.Template):
    """``$`` belongs to nginx."""

    delimiter = "%"


def find_nginx() -> Nginx:
    """The installed nginx and njs.

    Raises:
        Unavailable: one of them is missing; with the way to get it.
    """
    program = shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", ""), *_SYSTEM_FOLDERS)))
    if program is None:
        raise Unavailable(NEEDS_NGINX)
    built = subprocess.run([program, "-V"], capture_output=True, text=True, timeout=10).stderr
    if re.search(r"--add-module=\S*njs", built):
        return Nginx(Path(program), None)
    folder = re.search(r"--modules-path=(\S+)", built)
    if folder is None or not Path(folder[1], _MODULE).exists():
        raise Unavailable(f"{program} has no njs: {NEEDS_NGINX}")
    return Nginx(Path(program), Path(folder[1], _MODULE))


def require_keys(path: Path) -> None:
    """Refuse a file that holds anything but keys and comments.

    Raises:
        InvalidInput: a line is neither ``<sha256 hex of the key>  <name>`` nor a comment; or there is no such file.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"keys file {path}: {error}") from error
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not text.startswith("#") and not _KEY_LINE.fullmatch(text):
            raise InvalidInput(
                f"{path} line {number}: needed '<sha256 of the key, 64 hex digits>  <name>' or '# comment'"
            )


def worker_user() -> str | None:
    """Whom nginx's workers run as where we are root, else None: ourselves."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "www-data" if "www-data" in known else "nobody"


def write_front_config(
    folder: Path,
    nginx: Nginx,
    *,
    listen: str,
    tls: Tls | None,
    keys: Path,
    rest: str,
    grpc: str,
    management: str,
    logs: Path,
    limits: FrontLimits,
) -> Path:
    """Write ``nginx.conf`` into ``folder``.

    Args:
        listen: host:port of the public port.
        rest, grpc, management: host:port of TorchServe's.

    Raises:
        InvalidInput: a path that nginx could not be told.
    """
    script = resource_folder("config") / "front.js"
    certificate, key = (tls.certificate, tls.key) if tls else (None, None)
    for path in (folder, keys, logs, script, certificate, key):
        if re.search(r'["$\\\n]', str(path)):
            raise InvalidInput(f"{path}: a path of the front must not hold quotes, $, backslashes or line breaks")
    user = worker_user()
    text = _Template((resource_folder("config") / "nginx.conf").read_text("utf-8")).substitute(
        vars(limits),
        js_module=f'load_module "{nginx.module}";' if nginx.module else "",
        user=f"user {user} {grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name};" if user else "",
        processes=min(4, os.cpu_count() or 1),
        patience_s=PATIENCE_S,
        folder=folder,
        logs=logs,
        script=script,
        keys=keys.resolve(),
        max_bytes=MAX_REQUEST_BYTES,
        rest=rest,
        grpc=grpc,
        management=management,
        listen=f"{listen} ssl http2" if tls else listen,
        tls=_lines(_tls_lines(tls)) if tls else "",
        rest_pages=_lines(
            f"error_page {status} ={page.http} {_rest_page(status)};" for status, page in REFUSALS.items()
        ),
        grpc_pages=_lines(f"error_page {status} =200 @grpc_{status};" for status in REFUSALS),
        locations=_lines(_locations()),
    )
    path = folder / "nginx.conf"
    path.write_text(text, "utf-8")
    return path


def _lines(lines: Iterator[str]) -> str:
    return "\n        ".join(lines)


def _tls_lines(tls: Tls) -> Iterator[str]:
    yield f'ssl_certificate "{tls.certificate.resolve()}";'
    yield f'ssl_certificate_key "{tls.key.resolve()}";'
    yield "ssl_protocols TLSv1.2 TLSv1.3;"
    yield "ssl_ciphers ECDHE+AESGCM:ECDHE+CHACHA20;"
    yield "ssl_session_cache shared:tls:2m;"
    yield "ssl_session_tickets off;"


def _rest_page(status: int) -> str:
    """Named, which keeps the request's path for the log, unless nginx refuses it before it has a path."""
    return f"/_rest_{status}" if status in (400, 414) else f"@rest_{status}"


def _locations() -> Iterator[str]:
    """Named locations: JSON like TorchServe's for REST; status and message in the headers, without a body, for gRPC."""
    for status, page in REFUSALS.items():
        body = f'{{"code": {page.http}, "type": "{page.kind}", "message": "{page.message}"}}\\n'
        answer = f"default_type application/json; return {page.http} '{body}';"
        yield f"location {_rest_page(status)} {{ internal; {answer} }}"
        headers = {"grpc-status": page.grpc, "grpc-message": f'"{page.message}"', "X-Request-Id": "$id"}
        if page.http in (429, 503):
            headers |= {"Retry-After": 1}
        added = " ".join(f"add_header {name} {value};" for name, value in headers.items())
        yield f"location @grpc_{status} {{ default_type application/grpc; {added} return 200 ''; }}"
