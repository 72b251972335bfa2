"""The params of the stage plot, apart from it: what checks them does without what draws."""

from sft.core.params import Count, Params, Text


class PlotParams(Params):
    """`plot`: dots an inch, and how many rows of the mix the length histogram samples."""

    dpi: Count
    length_sample: Count


class TokenizerParams(Params):
    """`model`: the reference, whose tokenizer counts the tokens."""

    reference: Text


class LimitParams(Params):
    """`train`: the length limit, drawn into the histogram."""

    max_length: Count
