"""The params that a model card names, and the licence that an adapter is published under."""

import re
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from sft.core.param_errors import wanted
from sft.core.params import Count, Integer, Number, Params, Share, Text

# card.license beside the hub's identifiers: nobody has decided yet; what the licences of base and data ask.
UNDECIDED, OTHER = "undecided", "other"
_IDENTIFIER = r"[a-z0-9][a-z0-9.+-]*"


def _license(value: str) -> str:
    if not re.fullmatch(_IDENTIFIER, value):
        raise wanted(f"{UNDECIDED}, {OTHER} or an identifier of the hub's such as apache-2.0 or cc-by-sa-4.0")
    return value


License = Annotated[
    Text, AfterValidator(_license), WithJsonSchema({"type": "string", "pattern": f"^{_IDENTIFIER}$"})
]


class CardParams(Params):
    """`card`: the licence that the adapter is published under."""

    license: License


class BaseParams(Params):
    """`model`: the base model, and what its weights were computed in."""

    reference: Text
    dtype: Text
    load_in_4bit: bool


class SourcesParams(Params):
    """`data`: the sources that were trained on."""

    base: list[Text]
    extra: list[Text]


class LoraOfCard(Params):
    """`train.lora`: rank, scale, dropout, and the modules that are adapted."""

    r: Count
    alpha: Number
    dropout: Share
    target_modules: list[Text]


class TrainingParams(Params):
    """`train`: how much was trained, and how."""

    engine: Text
    seed: Integer
    budget: Text
    batch_size: Count
    max_length: Count
    too_long: Text
    loss_on: Text
    learning_rate: Number
    lr_scheduler: Text
    warmup_steps: Integer
    weight_decay: Number
    optimizer: Text
    lora: LoraOfCard


class AnswersParams(Params):
    """`evaluate`: how often an example was answered, and how."""

    runs: Count
    temperature: Number
