"""What the stand-in for the hub serves: the repositories that the preset names."""

import time
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.material import words_of
from benchmarks.rehearsal import data, model
from benchmarks.rehearsal.scale import Scale
from sft.fetch.uri import Address, parse
from tests.hub_server import HubServer

KINDS = {"model": "models", "dataset": "datasets"}


@dataclass(frozen=True)
class Repository:
    """A repository of the hub's: its commit, its bytes, and the seconds that it took to make and to hash."""

    name: str
    commit: str
    bytes: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return all of it."""
        return asdict(self)


def make(hub: HubServer, params: dict[str, Any], scale: Scale) -> list[Repository]:
    """Make the model's and the data's repositories; where params name a commit, the hub has them at that."""
    uris = [params["model"]["reference"], *params["data"]["base"], *params["data"]["extra"]]
    addresses = of_model, base, extra = [parse(uri) for uri in uris]
    at, base_at, extra_at = (hub.root / KINDS[address.scheme] / address.name for address in addresses)
    hub.pinned.update({of.name: of.revision for of in addresses if of.revision and len(of.revision) == 40})
    began = time.monotonic()
    tokenizer = model.write(at, scale.config)
    made = [_hashed(hub, of_model, began)]
    began = time.monotonic()
    data.write(base_at, extra_at, words_of(tokenizer), scale.base, scale.others)
    half = (time.monotonic() - began) / 2  # both are made at once
    return [*made, *(_hashed(hub, of, time.monotonic() - half) for of in (base, extra))]


def _hashed(hub: HubServer, address: Address, began: float) -> Repository:
    kind = KINDS[address.scheme]
    commit = hub.commit(kind, address.name)
    size = sum(path.stat().st_size for path in hub.files(kind, address.name).values())
    return Repository(address.name, commit, size, round(time.monotonic() - began, 1))
