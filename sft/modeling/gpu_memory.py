"""A model that is too large for the GPU: said in a sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

from sft.core.errors import ParamError


@contextmanager
def fits_the_gpu(reference: str, load_in_4bit: bool) -> Iterator[None]:
    """Raise ParamError in place of running out of the GPU's memory while the model is loaded inside."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        gib = torch.cuda.get_device_properties().total_memory / 2**30
        where = f"does not fit the GPU, which has {gib:.0f} GiB, beside what else is on it"
        no_help = "More devices do not help: each of them holds the whole model."
        if load_in_4bit:
            raise ParamError(
                f"model.reference: {reference} {where}, in 4 bits. Use a smaller model. {no_help}"
            ) from error
        raise ParamError(
            f"model.load_in_4bit: {reference} {where}. Set it to true, which takes about a quarter of the "
            f"memory, or use a smaller model. {no_help}"
        ) from error
