"""Files that requests name: what is read, and everything else is not."""

import os
import socket
from pathlib import Path

import pytest

from thermoscale.errors import InvalidInput
from thermoscale.wire import file_parts
from thermoscale.wire.file_parts import FileRoots
from thermoscale.wire.limits import Limits

LIMITS = Limits(max_body_bytes=100)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An allowed folder beside one with a secret."""
    (tmp_path / "allowed" / "deep").mkdir(parents=True)
    (tmp_path / "allowed" / "deep" / "a.tif").write_bytes(b"content")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_bytes(b"secret")
    return tmp_path / "allowed"


def read(root: Path, path: str | bytes | Path, **more: bytes) -> dict[str, bytes]:
    part = path if isinstance(path, bytes) else str(path).encode()
    return FileRoots([root]).read_parts({"body_file": part, **more}, LIMITS)


def test_a_named_file_takes_the_place_of_its_bytes(root: Path) -> None:
    parts = read(root, root / "deep" / "a.tif", time=b"2020-01-01")
    assert parts == {"body": b"content", "time": b"2020-01-01"}


def test_links_are_followed_as_long_as_they_stay_inside(root: Path) -> None:
    (root / "link.tif").symlink_to("deep/a.tif")
    (root / "short").symlink_to(root / "deep")
    (root.parent / "door").symlink_to(root)
    for path in (root / "link.tif", root / "short" / "a.tif", root.parent / "door" / "deep" / "a.tif"):
        assert read(root, path)["body"] == b"content"
    assert FileRoots([root.parent / "door"]).read_parts({"a_file": str(root / "link.tif").encode()}, LIMITS)


def test_what_lies_outside_is_refused_the_same_whether_it_is_there_or_not(root: Path) -> None:
    (root / "out").symlink_to(root.parent / "secret")
    (root / "key").symlink_to(root.parent / "secret" / "key")
    (root / "round").symlink_to("round")
    paths = [
        root.parent / "secret" / "key",
        root.parent / "secret" / "none",
        f"{root}/../secret/key",
        root / "out" / "key",
        root / "key",
        f"{root}-2/key",
        "/etc/passwd",
        "/proc/self/environ",
    ]
    for path in paths:
        with pytest.raises(InvalidInput, match="is in no folder that requests may read from"):
            read(root, path)
    with pytest.raises(InvalidInput, match="cannot read"):
        read(root, root / "round")


@pytest.mark.parametrize(
    "path",
    ["a.tif", "", "http://example.org/a.tif", "file:///etc/passwd", "/vsicurl/http://example.org/a", "/vsimem/a",
     "//server/a.tif", "/a\0b", "/a\nb", b"/\xff"],
)  # fmt: skip
def test_only_absolute_paths_of_files_are_names(root: Path, path: str | bytes) -> None:
    with pytest.raises(InvalidInput, match=r"needed the absolute path of a file|not UTF-8"):
        read(root, path)


def test_only_plain_files_that_are_there_and_small_are_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)  # the address of a socket must be short
    os.mkfifo(root / "pipe")
    (root / "large").write_bytes(bytes(101))
    (root / "exact").write_bytes(bytes(100))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for name, says in {
            "pipe": "not a plain file",
            "": "not a plain file",
            "deep": "not a plain file",
            "socket": "cannot read",
            "large": "a file of 101 bytes, at most 100 are allowed",
            "none": "cannot read .*: No such file",
            "deep/a.tif/b": "cannot read .*: Not a directory",
            "n" * 300: "cannot read .*: File name too long",
        }.items():
            with pytest.raises(InvalidInput, match=says):
                read(root, root / name)
    assert len(read(root, root / "exact")["body"]) == 100
    with pytest.raises(InvalidInput, match="5001 bytes, needed a path"):
        read(root, "/" + "a" * 5000)


def test_a_link_put_there_after_the_check_is_not_followed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, files = root / "deep" / "key", FileRoots([root])
    for attack in (target, root / "deep"):
        target.write_bytes(b"plain")
        monkeypatch.setattr(os.path, "realpath", lambda path, attack=attack: exchange(path, attack, root))
        with pytest.raises(InvalidInput, match="cannot read"):
            files.read_parts({"body_file": str(target).encode()}, LIMITS)
        monkeypatch.undo()
        attack.unlink()
        (root / "deep").mkdir(exist_ok=True)


def exchange(path: str, attack: Path, root: Path) -> str:
    """What ``realpath`` says, and at once a link to the secret stands where the path led."""
    attack.rename(root.parent / f"moved-{attack.name}")
    attack.symlink_to(root.parent / "secret" / ("key" if attack.name == "key" else ""))
    return path


def test_a_name_given_as_file_and_as_bytes_is_refused(root: Path) -> None:
    with pytest.raises(InvalidInput, match=r"gives \['body'\] twice"):
        read(root, root / "deep" / "a.tif", body=b"x")


def test_no_file_is_read_unless_folders_are_allowed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(file_parts.ROOTS_VARIABLE, raising=False)
    part = {"body_file": str(root / "deep" / "a.tif").encode()}
    with pytest.raises(InvalidInput, match="this server reads none"):
        FileRoots.from_environment().read_parts(part, LIMITS)
    monkeypatch.setenv(file_parts.ROOTS_VARIABLE, f"{root}:{root.parent / 'secret'}")
    assert FileRoots.from_environment().read_parts(part, LIMITS) == {"body": b"content"}
    for wrong in ("relative", str(root / "none"), str(root / "deep" / "a.tif")):
        monkeypatch.setenv(file_parts.ROOTS_VARIABLE, wrong)
        with pytest.raises(InvalidInput, match="needed absolute paths of folders"):
            FileRoots.from_environment()
