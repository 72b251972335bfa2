"""Serving the page until the process is ended."""

import os

from app.backend import Backend
from app.page import build, look
from app.startup import Startup
from sft.core.errors import UserError


def serve(backend: Backend, host: str | None = None, port: int | None = None) -> None:
    """Serve the page, and print its address; raises UserError where the port is taken.

    Without a port it is the first free one from 7860 on; $GRADIO_SERVER_NAME and $GRADIO_SERVER_PORT, which
    hosts such as Hugging Face's set, say otherwise.
    """
    # A proxy must not be asked for this machine, which gradio does to see that its server is up.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "localhost,127.0.0.1"]))
    startup = Startup(backend)
    page = build(backend, startup)
    startup.start()
    try:
        _, url, _ = page.launch(
            server_name=host,
            server_port=port,
            share=False,
            ssr_mode=False,
            quiet=True,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            state_session_capacity=1000,
            max_file_size="1kb",  # no field takes a file
            prevent_thread_lock=True,
            **look(),
        )
    except OSError as error:
        if port:
            raise UserError(f"port {port} of {host} cannot be used. Choose another: --port 7861") from error
        raise UserError(
            "no port of this machine is free for the page. Name one: GRADIO_SERVER_PORT=8000"
        ) from error
    print(f"The recipe chatbot is at {url.rstrip('/').replace('127.0.0.1', 'localhost')}", flush=True)
    page.block_thread()
