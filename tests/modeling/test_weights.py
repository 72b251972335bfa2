"""Weights that are not to be trusted: refused with a sentence, in little time and memory."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from safetensors.numpy import save_file

from sft.core.errors import MissingFile, UserError
from sft.modeling import adapter, gguf, weights
from tests.imports import ROOT

# One process reads them all, without torch, and may take 0.4 GB beyond what it takes to begin with.
CHECK = """
import resource, sys, time
from pathlib import Path
from sft.core.errors import UserError
from sft.modeling import gguf_header, weights
import numpy, safetensors
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20), used + (400 << 20)))
for path in map(Path, sys.argv[1:]):
    start = time.process_time()
    try:
        (gguf_header.check if path.suffix == ".gguf" else weights.check_file)(path)
        said = "nothing"
    except UserError as error:
        said = str(error)
    print(path.name, "|", said, "|", time.process_time() - start)
"""


def of_safetensors(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def tensors(**of: tuple[list[int], int, int]) -> bytes:
    """Return a header of float32 tensors: shape, first byte and the byte behind the last of each."""
    header = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
        for name, (shape, start, end) in of.items()
    }
    return json.dumps(header).encode()


def of_gguf(body: bytes, version: int = 3, tensors: int = 0, pairs: int = 1) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs) + body


def string(text: bytes, claimed: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if claimed is None else claimed) + text


def array(kind: int, count: int) -> bytes:
    return string(b"name") + struct.pack("<IIQ", 9, kind, count)


FAR, MUCH = 1 << 60, 50_000_000
# What a file holds, and a part of what must be said of it.
HOSTILE = {
    "length.safetensors": (of_safetensors(b"{}", length=FAR), "header"),
    "garbage.safetensors": (of_safetensors(b"{" * 1000), "header"),
    "nested.safetensors": (of_safetensors(b'{"a":' + b"[" * 1_000_000), "header"),
    "outside.safetensors": (of_safetensors(tensors(a=([2], 0, 8)), b"1234"), "header"),
    "far.safetensors": (of_safetensors(tensors(a=([1 << 58], 0, FAR)), b"1234"), "header"),
    "overflow.safetensors": (of_safetensors(tensors(a=([1 << 40, 1 << 40], 0, 8)), b"12345678"), "header"),
    "overlap.safetensors": (of_safetensors(tensors(a=([2], 0, 8), b=([2], 4, 12)), b"1" * 12), "header"),
    "none.safetensors": (of_safetensors(b"{}"), "no weights in it"),
    "magic.gguf": (b"GGML" + bytes(100), "does not begin with GGUF"),
    "version.gguf": (of_gguf(b"", version=9), "its version is 9"),
    "empty.gguf": (b"", "cannot"),
    "pairs.gguf": (of_gguf(b"", pairs=FAR), f"{FAR:,} values"),
    "tensors.gguf": (of_gguf(b"", pairs=0, tensors=FAR), f"{FAR:,} tensors"),
    "string.gguf": (of_gguf(string(b"", FAR)), f"it claims {FAR:,} more"),
    "array.gguf": (of_gguf(array(8, FAR)), f"arrays claim {FAR:,} elements"),
    "numbers.gguf": (of_gguf(array(0, MUCH) + bytes(MUCH)), f"arrays claim {MUCH:,} elements"),
    "arrays.gguf": (of_gguf(array(9, 1) + struct.pack("<IQ", 9, 1) * 9), "the type 9"),
    "type.gguf": (of_gguf(string(b"name") + struct.pack("<I", 77)), "the type 77"),
    "cut.gguf": (of_gguf(string(b"name")), "and the file ends"),
    "rank.gguf": (of_gguf(string(b"t") + struct.pack("<I", 999), pairs=0, tensors=1), "999 dimensions"),
}


@pytest.fixture
def sound(tmp_path: Path) -> list[Path]:
    save_file({"a": np.zeros(3, "float32")}, tmp_path / "sound.safetensors")
    writer = GGUFWriter(tmp_path / "sound.gguf", "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"token {n}" for n in range(1000)])
    writer.add_token_scores([0.5] * 1000)
    writer.add_tensor("t", np.zeros((4, 3), "float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return [tmp_path / "sound.safetensors", tmp_path / "sound.gguf"]


def test_wrong_headers_are_refused_in_little_time_and_memory(tmp_path: Path, sound: list[Path]) -> None:
    paths = [*sound, *(tmp_path / name for name in HOSTILE)]
    for name, (content, _) in HOSTILE.items():
        (tmp_path / name).write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", CHECK, *map(str, paths)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = [line.split(" | ") for line in done.stdout.splitlines()]
    assert [name for name, _, _ in told] == [path.name for path in paths]
    assert [said for _, said, _ in told[:2]] == ["nothing", "nothing"]
    for (_, part), (name, said, seconds) in zip(HOSTILE.values(), told[2:], strict=True):
        assert part in said and name in said, (name, said)
        assert float(seconds) < 5, (name, seconds)  # of the processor; each takes less than 0.1


def test_a_damaged_gguf_is_refused_before_it_is_converted(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SFT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "model.gguf"
    path.write_bytes(of_gguf(array(8, FAR)))
    with pytest.raises(UserError, match=r"model\.gguf: not a GGUF file that can be read: .* Get it again"):
        gguf.converted(path, "pypi://some")


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^mine: holds no weights in safetensors format\. Put model"):
        weights.check(tmp_path, "mine")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match=r"pytorch_model\.bin is a pickle, which could run any code"):
        weights.check(tmp_path, "mine")


def test_an_adapter_s_pickle_is_refused(tmp_path: Path) -> None:
    """PEFT itself would load it where there are no safetensors."""
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(MissingFile, match=r"adapter_model\.safetensors"):
        adapter.attach(None, tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(of_safetensors(b"{}", length=FAR))
    with pytest.raises(UserError, match=r"adapter_model\.safetensors: not safetensors that can be read"):
        adapter.attach(None, tmp_path)
