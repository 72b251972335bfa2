"""llama.cpp's server on a GGUF file, from Python packages alone; it speaks OpenAI's chat completions.

    python -m app.llama_cpp export/gguf/NAME-q8_0.gguf [--port 8080]

The program llama-server is the same server with more options.
"""

import argparse
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from sft.core.errors import UserError
from sft.modeling import gguf_header

HOST = "127.0.0.1"
CONTEXT = 3072  # tokens of a conversation, as many as app.loading takes
AT_ONCE = 4  # answers; more wait. Each has the memory of a context.
ERRORS = 1  # llama.cpp's level of what it prints; 3 says all about the model
QUOTA = Path("/sys/fs/cgroup/cpu.max")


def main() -> None:
    """Read the command line, serve until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m app.llama_cpp", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("file", type=Path, help="a GGUF file")
    parser.add_argument("--host", default=HOST, help="0.0.0.0: for other machines too; there is no login")
    parser.add_argument("--port", type=int, default=8080)
    options = parser.parse_args()
    if not 0 < options.port < 65536:
        parser.error(f"--port {options.port}: not from 1 to 65535")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        server = serve(options.file, options.host, options.port)
        print(f"{options.file.name} is served at {server.listening_address}", flush=True)
        signal.pause()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def serve(file: Path, host: str = HOST, port: int = 0) -> Any:
    """Return a server that answers, at its `listening_address`, as long as it is kept; port 0 is a free one.

    The model is called as the file is, without .gguf. Raises UserError where file or port is of no use.
    """
    gguf_header.check(file, "Make one: make export")
    if port:
        _check_free(host, port)
    try:
        import xllamacpp
    except ImportError as error:
        raise UserError(
            f"the package xllamacpp, which is llama.cpp, cannot be loaded: {error}. It needs the system's "
            "libgomp (on Debian: apt-get install libgomp1)."
        ) from error
    params = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.model_alias = {file.stem}
    params.hostnames, params.port = [host], port
    params.n_parallel, params.n_ctx = AT_ONCE, AT_ONCE * CONTEXT
    params.cache_ram_mib = 0  # else prompts that were read are kept, in up to 8 GiB
    params.cpuparams.n_threads = cores()
    params.verbosity = ERRORS
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise UserError(f"{file}: llama.cpp cannot serve it; what it prints above says why.") from error


def cores() -> int:
    """Return how many threads compute: $OMP_NUM_THREADS, else one for each core that this process may use.

    llama.cpp takes all of the machine's, of which a container may have a few. Its threads wait for one
    another at every step, so with more of them than cores an answer takes many times as long.
    """
    if (threads := os.environ.get("OMP_NUM_THREADS", "")).isdecimal() and int(threads):
        return int(threads)
    own = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    try:
        quota, period = QUOTA.read_text().split()
        return max(1, min(own, int(quota) // int(period)))
    except (OSError, ValueError):  # no control groups here, or "max": no limit
        return own


def _check_free(host: str, port: int) -> None:
    """Raise UserError for a port that is taken, of which llama.cpp says nothing."""
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise UserError(f"port {port} of {host} cannot be used. Choose another: --port {port + 1}") from error


if __name__ == "__main__":
    main()
