"""The recipe chatbot's page, served on this machine.

Run as `python -m app.chat` (or `make chat`) in the repository, and open the address that it prints.
"""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from app.prompts import MOST_ANSWER, MOST_TOKENS
from sft.core.errors import UserError
from stages.cli import described

if TYPE_CHECKING:
    from app.backend import Backend


def main() -> None:
    """Read the command line, load the model, serve the page until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m app.chat", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0: for other machines too")
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument("--max-tokens", type=int, default=MOST_TOKENS, help="where an answer is cut off")
    parser.add_argument("--server", metavar="URL", help="of an OpenAI-compatible server that answers instead")
    parser.add_argument("--model", default="", help="the server's, where it has several")
    options = parser.parse_args()
    if options.model and not options.server:
        parser.error("--model is of a --server; other models are chosen on the page")
    if not 0 < options.port < 65536:
        parser.error(f"--port {options.port}: not from 1 to 65535")
    if not 0 < options.max_tokens <= MOST_ANSWER:
        parser.error(f"--max-tokens {options.max_tokens}: not from 1 to {MOST_ANSWER}")
    # A proxy must not be asked for this machine, which the page's server does to see that it is up.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "localhost,127.0.0.1"]))
    print("starting ...", flush=True)
    try:
        serve(backend(options), options.host, options.port)
    except UserError as error:
        sys.exit(f"error: {described(error)}")


def backend(options: argparse.Namespace) -> "Backend":
    """Return who answers: a server, or this process, which then imports torch."""
    if options.server:
        from app.revisions import temperature
        from app.served import Server

        return Server(options.server, options.model, temperature(), options.max_tokens)
    from app.answering import Answerer
    from app.repository import Repository

    return Repository(Answerer(options.max_tokens))


def serve(backend: "Backend", host: str, port: int) -> None:
    """Serve the page; raises UserError where the port is taken."""
    from app.page import build, look
    from app.startup import Startup

    startup = Startup(backend)
    page = build(backend, startup)
    startup.start()
    try:
        page.launch(
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
        raise UserError(f"port {port} of {host} cannot be used. Choose another: --port 7861") from error
    print(
        f"The recipe chatbot is at http://{'localhost' if host == '127.0.0.1' else host}:{port}", flush=True
    )
    page.block_thread()


if __name__ == "__main__":
    main()
