"""Write schema/params.json, by which an editor completes and checks params.yaml and the presets.

Run as `python -m scripts.params_schema` after a change of a stage's params or of params.yaml's comments.
"""

import re
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from sft.card.params import CardParams
from sft.core.files import write_json
from sft.core.params import ByName
from sft.evaluation.evaluate import EvaluateParams
from sft.mixing.mix import MixParams
from sft.modeling.loading import ModelParams
from sft.tasks.task import TaskParams
from sft.training.mixture import MixtureParams
from sft.training.train_params import TrainParams
from stages.plot_params import PlotParams
from stages.standardize import StandardizeParams

SCHEMA = "schema/params.json"
# What the stages read, by the name of the part of params; several stages may share a part.
SECTIONS: dict[str, tuple[Any, ...]] = {
    "model": (ModelParams,),
    "data": (MixParams, StandardizeParams, MixtureParams),
    "tasks": (ByName[TaskParams],),
    "train": (TrainParams,),
    "evaluate": (EvaluateParams,),
    "plot": (PlotParams,),
    "card": (CardParams,),
}


def build(params: str) -> dict[str, Any]:
    """Return the JSON Schema of a params file; its descriptions are the comments of `params`, a file's text.

    No param is required, so that presets fit too; DVC and the stages name one that is missing.
    """
    groups = {name: _merged([_inlined(_schema(kind)) for kind in kinds]) for name, kinds in SECTIONS.items()}
    schema = {"type": "object", "properties": groups, "additionalProperties": False}
    for path, comment in _comments(params):
        at: Any = schema
        for name in path:
            at = at.get("properties", {}).get(name, {})
        at["description"] = comment
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "params.yaml"} | schema


def _schema(kind: Any) -> dict[str, Any]:
    return TypeAdapter(kind).json_schema()


def _merged(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    first, *others = schemas
    for other in others:
        first["properties"] |= other["properties"]
    return first


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Put a model's nested models in their place, refuse other keys, and drop what says nothing."""
    definitions = schema.get("$defs", {})

    def plain(node: Any) -> Any:
        if isinstance(node, list):
            return [plain(item) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return plain(definitions[node["$ref"].rpartition("/")[2]])
        kept = {key: value for key, value in node.items() if key not in ("$defs", "title", "required")}
        if "patternProperties" in kept:  # names that the user chooses: no other
            kept["additionalProperties"] = False
        if "properties" not in kept:
            return {key: plain(value) for key, value in kept.items()}
        properties = {name: plain(value) for name, value in kept["properties"].items()}
        return {"type": "object", "properties": properties, "additionalProperties": False}

    return plain(schema)


def _comments(params: str) -> list[tuple[list[str], str]]:
    """List the params that have a comment right above them, each as its path and the comment."""
    found: list[tuple[list[str], str]] = []
    path: list[str] = []
    above: list[str] = []
    for line in params.splitlines():
        if match := re.match(r"( *)# (.*)", line):
            above.append(match[2])
            continue
        if match := re.match(r"( *)(\w+):", line):
            path = [*path[: len(match[1]) // 2], match[2]]
            if above:
                found.append((path, " ".join(above)))
        above = []
    return found


def main() -> None:
    """Write the schema."""
    write_json(SCHEMA, build(Path("params.yaml").read_text(encoding="utf-8")))
    print(f"{SCHEMA} written")


if __name__ == "__main__":
    main()
