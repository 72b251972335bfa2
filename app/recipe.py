"""A recipe from ingredients, streamed to the terminal; the chatbot's page without a page.

Run as `python -m app.recipe "chicken, rice, lemon"`.
"""

import argparse
import signal
import sys

from app import prompts
from app.tickets import Ticket, follow
from sft.core.errors import UserError
from stages.cli import described

CAUTION = "Written by a language model, which is no cook and no dietician: check it before you eat it."


def main() -> None:
    """Read the command line, print the recipe."""
    parser = argparse.ArgumentParser(prog="python -m app.recipe", description=__doc__)
    parser.add_argument("ingredients", nargs="+", help='such as "chicken, rice, lemon"')
    parser.add_argument(
        "--model", default="", help="workspace, base, an experiment or revision; with --server, its model"
    )
    parser.add_argument("--server", metavar="URL", help="of an OpenAI-compatible server that answers instead")
    parser.add_argument("--diet", default="")
    parser.add_argument("--cuisine", default="")
    parser.add_argument("--servings", default="")
    parser.add_argument("--seed", type=int, default=0, help="another one, another recipe")
    parser.add_argument("--max-tokens", type=int, default=prompts.MOST_TOKENS, help="where it is cut off")
    options = parser.parse_args()
    if not 0 < options.max_tokens <= prompts.MOST_ANSWER:
        parser.error(f"--max-tokens {options.max_tokens}: not from 1 to {prompts.MOST_ANSWER}")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` is no fault
    try:
        stream(options)
    except UserError as error:
        sys.exit(f"error: {described(error)}")
    except KeyboardInterrupt:
        print()
        sys.exit(130)


def begin(options: argparse.Namespace, question: prompts.Messages) -> Ticket:
    """Begin the answer: a server's, or that of a model which is loaded here."""
    from app import revisions

    if options.server:
        from app.served import Server

        server = Server(options.server, options.model, revisions.temperature(), options.max_tokens)
        return server.ask(server.default, question, options.seed)
    source = revisions.find(options.model or revisions.WORKSPACE)

    from app.answering import Answerer  # torch, which takes a while

    def report(what: str) -> None:
        print(f"{what} ...", file=sys.stderr)

    return Answerer(options.max_tokens).ask(source, question, options.seed, report)


def stream(options: argparse.Namespace) -> None:
    """Stream the recipe to standard output, all else to standard error."""
    wish = prompts.Wish(", ".join(options.ingredients), options.diet, options.cuisine, options.servings)
    ticket = begin(options, prompts.recipe(wish))
    shown = 0
    for _ in follow([ticket], every=0.05):
        # What a terminal would obey is left out; a letter that is not complete yet is not in the text.
        text = prompts.visible(ticket.text)
        print(text[shown:], end="", flush=True)
        shown = len(text)
    print()
    if ticket.fault:
        raise UserError(ticket.fault)
    if ticket.state == "cut off":
        print(f"(cut off after {ticket.most_tokens} tokens)", file=sys.stderr)
    print(f"\n{CAUTION}", file=sys.stderr)


if __name__ == "__main__":
    main()
