"""Servers that the chatbot may meet: one that does as the first part of its address says, in this process."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HARD_TO_SPLIT = "é\u2028 \u0085\U0001f34b"
MODELS: dict[str, Any] = {
    "several": [{"id": "one"}, {"id": "two"}],
    "none": [],
    "odd": None,
}


class Handler(BaseHTTPRequestHandler):
    """/NAME/v1/models and /NAME/v1/chat/completions."""

    protocol_version = "HTTP/1.1"
    gone = threading.Event()  # somebody has closed the connection of an endless answer

    def do_GET(self) -> None:
        name = self.path.split("/")[1]
        if name == "loading":
            self.reply(503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}})
        elif name == "elsewhere":
            self.reply(404, None)
        elif name == "locked" and self.headers["Authorization"] != "Bearer sesame":
            self.reply(401, {"error": "Unauthorized"})
        else:
            self.reply(200, {"object": "list", "data": MODELS.get(name, [{"id": "mine"}])})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        getattr(self, "answer_" + self.path.split("/")[1].replace("-", "_"))(asked)

    def answer_fine(self, asked: dict[str, Any]) -> None:
        self.start()
        text = json.dumps({"choices": [{"delta": {"content": HARD_TO_SPLIT}}]}, ensure_ascii=False).encode()
        for byte in b": a comment\r\n\r\ndata: " + text + b"\r\n\r\n":
            self.chunk(bytes([byte]))
        self.event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        self.event({"choices": [], "usage": {"completion_tokens": 3}})
        self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def answer_locked(self, asked: dict[str, Any]) -> None:
        self.answer_fine(asked)

    def answer_ill(self, asked: dict[str, Any]) -> None:
        self.reply(500, {"error": {"message": "out of memory"}})

    def answer_breaks(self, asked: dict[str, Any]) -> None:
        self.start()
        self.event({"choices": [{"delta": {"content": "half"}}]})
        self.close_connection = True  # no last chunk

    def answer_ends_early(self, asked: dict[str, Any]) -> None:
        self.start()
        self.event({"choices": [{"delta": {"content": "half"}}]})
        self.chunk(b"")

    def answer_fails(self, asked: dict[str, Any]) -> None:
        self.start()
        self.event({"choices": [{"delta": {"content": "half"}}]})
        self.event({"error": {"message": "the engine died", "code": 500}})
        self.chunk(b"")

    def answer_babbles(self, asked: dict[str, Any]) -> None:
        self.start()
        self.chunk(b"data: hello\n\n")
        self.chunk(b"")

    def answer_forgetful(self, asked: dict[str, Any]) -> None:
        """Take three messages at most, and say which."""
        if len(asked["messages"]) > 3:
            message = "This model's maximum context length is 3 tokens. Please shorten the messages."
            self.reply(400, {"object": "error", "message": message})
            return
        self.start()
        text = "|".join(message["content"] for message in asked["messages"])
        self.event({"choices": [{"delta": {"content": text}, "finish_reason": "length"}]})
        self.chunk(b"")

    def answer_narrow(self, asked: dict[str, Any]) -> None:
        self.reply(400, {"error": {"code": 400, "message": "exceeds the available context size"}})

    def answer_endless(self, asked: dict[str, Any]) -> None:
        self.start()
        try:
            while True:
                self.event({"choices": [{"delta": {"content": "word "}}]})
                self.gone.wait(0.01)
        except OSError:
            self.gone.set()
        self.close_connection = True

    def start(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def event(self, content: dict[str, Any]) -> None:
        self.chunk(b"data: " + json.dumps(content).encode() + b"\n\n")

    def chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))

    def reply(self, status: int, content: Any) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[str]:
    """Yield the address of such a server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
