"""MLflow's own server, as users start it, and what stands for one that is at fault."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@contextlib.contextmanager
def started(folder: Path) -> Iterator[str]:
    """Yield the address of a server whose database is folder/mlflow.db."""
    with (folder / "log").open("w+") as log:
        for _ in range(5):
            port = _free_port()
            process = _start(folder, port, log)
            if _answers(port, process):
                break
            _end(process)  # somebody else has taken the port meanwhile, or it does not start
        else:
            log.seek(0)
            raise AssertionError(log.read())
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            _end(process)


def _start(folder: Path, port: int, log: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--default-artifact-root", str(folder / "artifacts")]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    env = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")} | quiet
    return subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log, start_new_session=True)  # type: ignore[call-overload, no-any-return]


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _answers(port: int, process: subprocess.Popen) -> bool:
    for _ in range(1200):
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer,
        ):
            if answer.read() == b"OK" and process.poll() is None:
                return True
        if process.poll() is not None:
            return False
        time.sleep(0.1)
    return False


def _end(process: subprocess.Popen) -> None:
    """End the server and the processes that it has started, which are in a session of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Refusing(BaseHTTPRequestHandler):
    """Lets a run begin, and refuses everything after."""

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self.rfile.read(length)
        begins = self.path.endswith("/runs/create")
        info = {
            "run_id": "abc",
            "run_uuid": "abc",
            "experiment_id": "0",
            "status": "RUNNING",
            "run_name": "r",
        }
        body = {"run": {"info": info, "data": {}}} if begins else {"message": "the quota is used up"}
        sent = json.dumps(body).encode()
        self.send_response(200 if begins else 403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    do_GET = do_PATCH = do_POST  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """Yield the address of a server that lets a run begin and refuses what is then reported."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def nobody() -> Iterator[str]:
    """Yield an address that refuses connections: the port is taken, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"
