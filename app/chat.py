"""The recipe chatbot's page, served on this machine.

Run as `python -m app.chat` (or `make chat`) in the repository, and open the address that it prints.
"""

import argparse
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
    print("starting ...", flush=True)
    try:
        answering = backend(options)
        from app.serving import serve  # gradio, which takes a while

        serve(answering, options.host, options.port)
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


if __name__ == "__main__":
    main()
