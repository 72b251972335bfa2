"""Push the adapter and its card to the Hugging Face hub, and tag the commit as a version of it.

    python -m scripts.publish ORG/NAME [--what float32|bfloat16|float16|gguf] [--private] [--version v1.1.0]

Nothing is pushed before the licences of base model and data are shown, a licence is chosen (card.license),
and adapter, card and results are what the commit says. docs/publishing.md.
"""

import argparse
from typing import Any

from scripts import publishable, version_tags
from scripts.hub_repository import Repository
from sft.card.exported import FOLDERS
from sft.card.licences import licence_of
from sft.card.params import OTHER, UNDECIDED, BaseParams, CardParams, SourcesParams
from sft.core.errors import ParamError, UserError
from sft.core.params import section
from sft.fetch.uri import parse
from stages.cli import run


def main(values: dict[str, Any], options: argparse.Namespace) -> None:
    """Check, push and tag; say what was published and how to use it."""
    repository = Repository(options.repo)
    publishable.check_workspace()
    version = version_tags.next_version(options.version)
    files = publishable.files(options.what)
    print("\n".join(licences(values)), flush=True)
    check_license(values)
    repository.check_token()
    parent = repository.check_content(files)
    if new := parent is None:
        repository.create(options.private)
        parent = repository.check_content(files)
    try:
        commit = repository.push(files, parent, f"{version_tags.tag_of(version)}: {options.what}")
    except UserError as error:
        raise UserError(f"{error} The repository was made, and is empty." if new else str(error)) from error
    print("\n".join(["", *published(repository, files, commit, options.what)]), flush=True)
    print("\n".join(tagged(version, f"Published: {repository.url}/tree/{commit}")))


def licences(values: dict[str, Any]) -> list[str]:
    """Say what licences the base model and the data have, for a person to decide by."""
    model, data = section(values, "model", BaseParams), section(values, "data", SourcesParams)
    bound = [("base model", model.reference), *(("data", uri) for uri in (*data.base, *data.extra))]
    width = max(len(uri) for _, uri in bound)
    return [
        "Licences of what the adapter was made from:",
        *(f"  {what:<10}  {uri:<{width}}  {licence_of(parse(uri))}" for what, uri in bound),
    ]


def check_license(values: dict[str, Any]) -> None:
    """Raise ParamError where nobody has decided which licence the adapter is published under."""
    chosen = section(values, "card", CardParams).license
    if chosen == UNDECIDED:
        raise ParamError(
            "card.license: nobody has decided yet. Read the licences above, set it to the hub's identifier "
            f"of the one that the adapter gets, or to {OTHER} where what they ask is to hold; then dvc "
            "repro, and commit."
        )
    print(f"  the adapter: {chosen} (card.license)")


def published(repository: Repository, files: publishable.Files, commit: str, what: str) -> list[str]:
    """Say what was pushed where, and how it is used from here."""
    lines = [f"{len(files)} files: {repository.url}/tree/{commit}", f"hf://{repository.name}@{commit}"]
    if what == publishable.ADAPTER_ONLY:
        lines.append(f'  PeftModel.from_pretrained(base, "{repository.name}", revision="{commit}")')
    elif what != "gguf":
        lines.append("  as a base model here: model.reference in params.yaml")
    return lines


def tagged(version: str, message: str) -> list[str]:
    """Tag the commit and say how others get the tag; where Git cannot, say so, for it is published."""
    name = version_tags.tag_of(version)
    try:
        made = version_tags.tag(version, message)
    except UserError as error:
        return [f"warning: {error}", f"To tag this commit: git tag --annotate {name} -m published"]
    return [
        f"{name}: {'tagged' if made else 'this commit has the tag already'}. For `dvc artifacts get URL "
        f"{version_tags.ARTIFACT}`: make push, then: git push origin HEAD {name}"
    ]


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.publish", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("repo", metavar="ORG/NAME", help="the model repository; made where there is none")
    parser.add_argument(
        "--what",
        choices=[publishable.ADAPTER_ONLY, *FOLDERS],
        default=publishable.ADAPTER_ONLY,
        help="the adapter, or a folder of what `make export` wrote",
    )
    parser.add_argument("--private", action="store_true", help="a new repository is private")
    parser.add_argument("--version", metavar="v1.1.0", help="default: the minor version after the last")
    return parser.parse_args()


if __name__ == "__main__":
    given = parse_options()
    run(lambda values: main(values, given))
