"""``thermoscale``: predict with a bundle or a server, tables of zones, bundles inspected, packed and served.

Exit codes: 0 done, 1 it failed, 2 wrong usage or invalid input. Results go to standard output (``--json`` for
machines), messages to standard error.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from thermoscale.bundle.manifest import read_manifest
from thermoscale.cli.doctor import add_doctor_verb
from thermoscale.cli.parts import add_server_options, add_verb, open_client, say, show
from thermoscale.cli.serve import add_serve_verbs
from thermoscale.client import RestClient, decode_reply
from thermoscale.errors import InvalidInput, ThermoscaleError, Unavailable
from thermoscale.geo.atomic import write_atomically
from thermoscale.geo.geojson import read_zones
from thermoscale.geo.rasters import read_raster
from thermoscale.geo.zones import unit_of, zone_rows, zones_csv
from thermoscale.mosaic import DEFAULT_MEMORY_MB, downscale
from thermoscale.release.mar import pack
from thermoscale.service import open_bundle
from thermoscale.wire.limits import Limits

_LONG_LIST = 12
_REPLY_OF_SUFFIX = {".npz": b"npz", ".tif": b"geotiff", ".tiff": b"geotiff"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except ThermoscaleError as error:
        request = f" (request {error.request_id})" if error.request_id else ""
        say(f"thermoscale {args.verb}: {error}{request}")
        return 2 if isinstance(error, InvalidInput) else 1
    except OSError as error:
        say(f"thermoscale {args.verb}: {error}")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="thermoscale", description=__doc__.split("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_predict(add_verb(verbs, "predict", predict, "answer one request, with a bundle or by a server"))
    _add_zones(add_verb(verbs, "zones", zones, "a table of the districts of a GeoJSON file on a result"))
    _add_inspect(add_verb(verbs, "inspect", inspect, "what a bundle or a server says about itself"))
    verifying = add_verb(verbs, "verify", verify, "check every hash and reproduce the golden sample")
    verifying.add_argument("bundle", type=Path, help="folder exported/<pipeline>/<version>")
    packing = add_verb(verbs, "pack", pack_bundle, "make a TorchServe archive of a bundle")
    packing.add_argument("bundle", type=Path, help="folder exported/<pipeline>/<version>")
    packing.add_argument("--model-store", type=Path, default=Path("model_store"), help="default %(default)s")
    add_serve_verbs(verbs)
    add_doctor_verb(verbs)
    return parser


def _add_predict(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--bundle", type=Path, help="folder exported/<pipeline>/<version>: predict here")
    where.add_argument("--url", help="REST address of a server, for example http://127.0.0.1:8080")
    where.add_argument("--grpc", help="gRPC address of a server, for example 127.0.0.1:7070")
    add_server_options(parser)
    parser.add_argument("--in", dest="source", type=Path, required=True, help=".npz request, or GeoTIFF: coarse")
    parser.add_argument("--factors", type=Path, help="GeoTIFF of the factors, where --in is a GeoTIFF")
    parser.add_argument("--out", type=Path, required=True, help="reply: .tif or .npz")
    parser.add_argument("--encoding", help="of a .tif: float32 (default), or uint16 in steps of 0.01 K")
    parser.add_argument("--time", help="target time, for example 2020-10-02T18:30Z")
    parser.add_argument("--window", help="row,col,height,width in fine pixels")
    parser.add_argument("--mode", help="of iustfm: rationet, closed_form or adaptive")
    parser.add_argument("--past-only", action="store_true", help="use no date after the target")
    parser.add_argument("--order", help="of library dates: ordered, past_only or unordered")
    parser.add_argument("--min-baseline-k", help="smallest difference of the library dates' means, kelvin")
    parser.add_argument("--suspects", help="suspect scenes: warn (default) or refuse")
    parser.add_argument("--triples", nargs="+", metavar="PRE,POST", help="pairs of library times to use, of iustfm")
    parser.add_argument(
        "--memory-mb",
        type=int,
        nargs="?",
        const=DEFAULT_MEMORY_MB,
        metavar="N",
        help="GeoTIFFs of any size with a bundle of amun: work in N MB (%(const)s), write a COG; "
        "stopped, the same command goes on",
    )


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("bundle", type=Path, nargs="?", help="folder exported/<pipeline>/<version>: its manifest")
    what.add_argument("--url", help="REST address of a server: its models, or what --model answers")
    what.add_argument("--grpc", help="gRPC address of a server: what --model answers")
    add_server_options(parser)


def _add_zones(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("result", type=Path, help="GeoTIFF with a band lst, as predict writes it")
    parser.add_argument("zones", type=Path, help="GeoJSON polygons with a property name")
    parser.add_argument("--celsius", action="store_true", help="means and percentiles in degrees Celsius")
    parser.add_argument(
        "--above", type=float, metavar="K", help="also the share of pixels above this, kelvin even with --celsius"
    )
    parser.add_argument("--out", type=Path, help=".csv to write; default: standard output")


def predict(args: argparse.Namespace) -> int:
    """Answer the request in ``--in`` and write the reply to ``--out``."""
    meta = _predict_request(args) if args.memory_mb is None else _predict_strips(args)
    for warning in meta.get("warnings", ()):
        _say_of_predict(f"warning: {warning}")
    if not meta.get("georeferenced", True):
        say(f"{args.out} has no georeference: neither request nor bundle has one")
    show(
        args, {"out": str(args.out), **meta}, f"{args.out} written: {meta['bundle']} {meta['version']}, {meta['note']}"
    )
    return 0


def inspect(args: argparse.Namespace) -> int:
    """Print the manifest of a bundle, the description of a server's model, or the list of its models."""
    if args.bundle:
        manifest = read_manifest(args.bundle)
        fields = {**dataclasses.asdict(manifest), "digest": manifest.digest}
    else:
        with open_client(args) as client:
            if isinstance(client, RestClient) and not args.model:
                fields = {"models": client.models(timeout_s=args.timeout)}
            else:
                fields = client.describe(_model(args), version=args.version, timeout_s=args.timeout)
    show(args, fields, "\n".join(_outline(fields)))
    return 0


def _outline(fields: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """A line for each value, what belongs together indented; long lists by their ends."""
    for name, value in fields.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield f"{indent}{name}"
            for entry in value:
                yield from _outline(entry, indent + "    ")
        elif isinstance(value, dict):
            yield f"{indent}{name}"
            yield from _outline(value, indent + "    ")
        elif isinstance(value, list) and len(value) > _LONG_LIST:
            yield f"{indent}{name:<13} {len(value)}: {value[0]} ... {value[-1]}"
        else:
            yield f"{indent}{name:<13} {value}"


def verify(args: argparse.Namespace) -> int:
    """Open the bundle, which checks everything."""
    manifest = open_bundle(args.bundle).manifest
    facts = {"pipeline": manifest.pipeline, "version": manifest.version, "digest": manifest.digest}
    show(args, {**facts, "files": len(manifest.files)}, f"{args.bundle} is whole and reproduces its golden sample")
    return 0


def pack_bundle(args: argparse.Namespace) -> int:
    """Verify and pack."""
    archive = pack(args.bundle, args.model_store)
    show(args, {"archive": str(archive), "bytes": archive.stat().st_size}, str(archive))
    return 0


def zones(args: argparse.Namespace) -> int:
    """One row of numbers for each zone, as CSV."""
    raster = read_raster(args.result)
    areas = read_zones(args.zones, raster.crs)
    rows = zone_rows(str(args.result), raster, areas, above_k=args.above, celsius=args.celsius)
    unit = unit_of(raster, celsius=args.celsius)
    text = zones_csv(rows, unit)
    if args.out:
        with write_atomically(args.out) as stream:
            stream.write(text.encode())
    facts = [{name: None if value != value else value for name, value in vars(row).items()} for row in rows]
    if args.json or not args.out:
        show(args, {"celsius": args.celsius, "unit": unit, "zones": facts}, text.rstrip("\n"))
    return 0


def _predict_request(args: argparse.Namespace) -> dict[str, Any]:
    """One request, as a server would get it; ``meta`` of the reply."""
    parts = _request_parts(args)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    reply = _predict_bytes(args, parts)
    with write_atomically(args.out) as stream:
        stream.write(reply)
    meta: dict[str, Any] = decode_reply(reply)["meta"]
    return meta


def _predict_strips(args: argparse.Namespace) -> dict[str, Any]:
    """Files to file, strip by strip; ``meta`` of the result."""
    others = sorted(name.replace("_", "-") for name in _request_texts(args))
    if not args.bundle or others:
        wrong = f"with {', '.join(f'--{name}' for name in others)}" if others else "without --bundle"
        raise InvalidInput(f"--memory-mb is given {wrong}: it downscales whole GeoTIFFs here, with a bundle of amun")
    if _REPLY_OF_SUFFIX.get(args.out.suffix) != b"geotiff":
        raise InvalidInput(f"--out is {args.out}, needed a .tif: --memory-mb writes a COG")
    files = args.bundle, args.source, args.factors, args.out
    try:
        with strips_bar() as progress:
            return downscale(*files, memory_mb=args.memory_mb, progress=progress, say=_say_of_predict)
    except KeyboardInterrupt:
        raise Unavailable("stopped; the same command goes on after the last finished strip") from None


@contextmanager
def strips_bar() -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, where somebody is watching; it is told the strips that are done, and all."""
    from tqdm import tqdm  # the extra geo brings it; no other verb needs it

    with tqdm(desc="strips", disable=None, delay=1e-9) as bar:  # the delay: nothing is drawn before the first call

        def show(done: int, total: int) -> None:
            if bar.total is None:
                bar.reset(total)
                bar.n = bar.initial = bar.last_print_n = done  # earlier strips tell nothing of today's speed
                bar.refresh()
            bar.update(done - bar.n)

        yield show


def _say_of_predict(text: str) -> None:
    say(f"thermoscale predict: {text}")


def _request_parts(args: argparse.Namespace) -> dict[str, bytes]:
    """The request as named parts, the same for a bundle and for both wires."""
    if args.out.suffix not in _REPLY_OF_SUFFIX:
        raise InvalidInput(f"--out is {args.out}, needed a name that ends in {sorted(_REPLY_OF_SUFFIX)}")
    parts = {"body": _read(args.source), "reply": _REPLY_OF_SUFFIX[args.out.suffix]}
    if args.factors:
        parts["factors"] = _read(args.factors)
    return parts | {name: text.encode() for name, text in _request_texts(args).items()}


def _request_texts(args: argparse.Namespace) -> dict[str, str]:
    """The options that are part of a request, as far as they were given."""
    texts = {"time": args.time, "window": args.window, "mode": args.mode, "past_only": args.past_only and "true"}
    texts |= {
        "encoding": args.encoding,
        "order": args.order,
        "min_baseline_k": args.min_baseline_k,
        "suspects": args.suspects,
    }
    texts["triples"] = args.triples and json.dumps([pair.split(",") for pair in args.triples])
    return {name: text for name, text in texts.items() if text}


def _predict_bytes(args: argparse.Namespace, parts: dict[str, bytes]) -> bytes:
    if args.bundle:
        return open_bundle(args.bundle).predict_bytes(parts).body
    with open_client(args) as client:
        return client.predict_bytes(_model(args), parts, version=args.version, timeout_s=args.timeout)


def _model(args: argparse.Namespace) -> str:
    if not args.model:
        raise InvalidInput("--model is missing: a server may have several; needed amun or iustfm")
    return str(args.model)


def _read(path: Path) -> bytes:
    """The bytes of a part of a request."""
    try:
        size, most = path.stat().st_size, Limits().max_body_bytes
        if size > most:
            raise InvalidInput(
                f"{path} has {size} bytes, one request holds at most {most} in a part: "
                "with GeoTIFFs and a bundle of amun, add --memory-mb"
            )
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from error
