"""How many positions a model is made for."""

from typing import Any

from sft.modeling.loading import Resolved, readable
from sft.modeling.quiet import quiet
from sft.modeling.weights import LOCAL

# What stretches the positions beyond max_position_embeddings; of other kinds that number has it already.
STRETCHING = ("linear", "dynamic", "yarn")


def position_limit(base: Resolved) -> int | None:
    """Return the most tokens that the model's config allows in a row, None where it names no limit.

    It is `max_position_embeddings`, or what its rope scaling makes of it: with YaRN, linear or dynamic
    scaling `factor` times the length before (`original_max_position_embeddings`), if that is more; of linear
    scaling without that number it is as it stands.
    Raises UserError where the config cannot be read.
    """
    from transformers import AutoConfig

    with quiet(), readable(base, "config"):
        config = AutoConfig.from_pretrained(base.path, **LOCAL).get_text_config()
    limit = getattr(config, "max_position_embeddings", None)
    rope: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    if limit is not None and rope.get("rope_type") in STRETCHING:
        original = rope.get("original_max_position_embeddings")
        # Without it linear scaling leaves open whether `limit` is from before or after it: take the smaller.
        if original or rope["rope_type"] != "linear":
            limit = max(limit, int((original or limit) * rope.get("factor", 1)))
    return limit
