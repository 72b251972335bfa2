"""A recipe from ingredients, streamed to the terminal; the chatbot's page without a page.

Run as `python -m app.recipe "chicken, rice, lemon"`.
"""

import argparse
import signal
import sys

from app import prompts
from sft.core.errors import UserError
from stages.cli import described

CAUTION = "Written by a language model, which is no cook and no dietician: check it before you eat it."


def main() -> None:
    """Read the command line, print the recipe."""
    parser = argparse.ArgumentParser(prog="python -m app.recipe", description=__doc__)
    parser.add_argument("ingredients", nargs="+", help='such as "chicken, rice, lemon"')
    parser.add_argument("--model", default="workspace", help="workspace, base, or an experiment or revision")
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


def stream(options: argparse.Namespace) -> None:
    """Stream the recipe to standard output, all else to standard error."""
    from app import revisions

    wish = prompts.Wish(", ".join(options.ingredients), options.diet, options.cuisine, options.servings)
    question = prompts.recipe(wish)
    source = revisions.find(options.model)

    from app.answering import Answerer, follow  # torch, which takes a while

    answerer = Answerer(options.max_tokens)
    ticket = answerer.ask(source, question, options.seed, lambda what: print(f"{what} ...", file=sys.stderr))
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
        print(f"(cut off after {ticket.stream.most_tokens} tokens)", file=sys.stderr)
    print(f"\n{CAUTION}", file=sys.stderr)


if __name__ == "__main__":
    main()
