"""Servers on the loopback for real remotes to run against: one that speaks S3, one that speaks SSH."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from urllib.request import Request, urlopen

import asyncssh


class S3Server:
    """Moto's server, a process of its own, behind a port that can break off.

    With `puts` set, that many uploads more are let through; the next one is cut off, and from then on nobody
    is answered, as where a server dies. With None again it is back, and has what it had.
    """

    def __init__(self) -> None:
        self.puts: int | None = None

    def __enter__(self) -> "S3Server":
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._address = free.getsockname()
        where = ["--host", self._address[0], "--port", str(self._address[1])]
        command = [sys.executable, "-m", "moto.server", *where]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                socket.create_connection(self._address).close()
                break
            except ConnectionRefusedError:
                assert self._process.poll() is None
                time.sleep(0.1)
        else:
            raise AssertionError("moto's server does not answer")
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()
        self._listener.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def environment(self) -> dict[str, str]:
        """Return what a client needs in its environment; it tries once only, so that it fails soon."""
        return {
            "AWS_ACCESS_KEY_ID": "someone",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def request(self, method: str, path: str) -> bytes:
        """Send a request to the server itself, past the port that breaks off."""
        return urlopen(Request(f"http://127.0.0.1:{self._address[1]}{path}", method=method)).read()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            server = socket.create_connection(self._address)
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._forward, args=ends, daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(2**16):
                if self.puts is not None and data.startswith(b"PUT "):
                    self.puts -= 1
                if self.puts is not None and self.puts < 0:
                    break
                target.sendall(data)
        except OSError:  # the other thread has closed them
            pass
        for end in (source, target):
            # Not only closed, which would wait for the other thread's recv.
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class SSHServer:
    """Asyncssh's server with SFTP, in a thread; only the key in home/.ssh may enter, to `folder` as its root.

    `home` is made for a client's HOME: with the key, and with the server in known_hosts. With `bytes_left`
    set, that many bytes more are written to files or read from them. Then a write is cut short and refused,
    as where a disk is full ("full"), or the connection is lost ("lost"), according to `ends`.

    With an `environment` commands are run, too, by a shell that has it, in `folder`, which is not their root.
    """

    def __init__(self, folder: Path, home: Path, environment: dict[str, str] | None = None) -> None:
        self.folder, self.home, self.environment = folder, home, environment
        self.bytes_left: int | None = None
        self.ends = "full"

    def __enter__(self) -> "SSHServer":
        self.folder.mkdir(parents=True)
        (self.home / ".ssh").mkdir(parents=True)
        self.host_key, client = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        client.write_private_key(str(self.home / ".ssh" / "id_ed25519"))
        (self.home / ".ssh" / "id_ed25519").chmod(0o600)  # else OpenSSH does not use it
        client.write_public_key(str(self.home / "authorized_keys"))
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(30)
        self.trust(self.host_key)
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)

    @property
    def url(self) -> str:
        return f"ssh://tester@127.0.0.1:{self._server.get_port()}/remote"

    @property
    def port(self) -> int:
        return self._server.get_port()

    def trust(self, host_key: asyncssh.SSHKey) -> None:
        """Put a host's key for this server into known_hosts."""
        key = host_key.export_public_key().decode()
        known = self.home / ".ssh" / "known_hosts"
        known.write_text(f"[127.0.0.1]:{self._server.get_port()} {key}")

    async def _listen(self) -> asyncssh.SSHAcceptor:
        server = self

        class Files(asyncssh.SFTPServer):
            def __init__(self, channel: asyncssh.SSHServerChannel) -> None:
                super().__init__(channel, chroot=str(server.folder))

            def read(self, file: object, offset: int, size: int) -> bytes:
                data = super().read(file, offset, size)
                self._count(len(data))
                return data

            def write(self, file: object, offset: int, data: bytes) -> int:
                left = len(data) if server.bytes_left is None else max(0, server.bytes_left)
                super().write(file, offset, data[:left])
                self._count(len(data))
                return len(data)

            def _count(self, size: int) -> None:
                if server.bytes_left is None:
                    return
                server.bytes_left -= size
                if server.bytes_left < 0:
                    if server.ends == "lost":
                        self.channel.get_connection().abort()
                    raise asyncssh.SFTPFailure("No space left on device")

        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_host_keys=[self.host_key],
            authorized_client_keys=str(self.home / "authorized_keys"),
            sftp_factory=Files,
            process_factory=self._run if self.environment is not None else None,
            encoding=None,
        )

    async def _run(self, process: asyncssh.SSHServerProcess) -> None:
        command = subprocess.Popen(
            ["bash", "-c", process.command or "exit 1"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        await process.redirect(command.stdin, command.stdout, command.stderr)
        await process.stdout.drain()  # until the command has closed them
        await process.stderr.drain()
        process.exit(await asyncio.to_thread(command.wait))
        await process.wait_closed()
