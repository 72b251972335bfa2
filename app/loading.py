"""Models in memory: one for each base, with the adapters of several revisions on it; a bounded number."""

import time
from dataclasses import dataclass, field
from threading import Condition, Lock
from typing import Any

from app.revisions import Source
from app.streaming import BASE, Batch
from app.tickets import Report
from sft.core.errors import UserError
from sft.modeling import loading, weights
from sft.modeling.adapter import KEPT
from sft.modeling.loading import ModelParams

MOST_MODELS, MOST_ADAPTERS = 2, 8
MOST_CONTEXT = 3072  # tokens of a conversation, to bound the memory, where a model would take more


class NoAdapter(UserError):
    """Files that are no adapter, seen before anything was done with them."""


@dataclass(eq=False)
class Loaded:
    """A base model with its tokenizer, stop tokens and the texts that it is generating.

    `users` counts the answers that need it: while there are any it stays.
    """

    tokenizer: Any
    stop_ids: list[int]
    batch: Batch
    context: int
    users: int = 0
    used: float = 0.0
    adapters: dict[str, float] = field(default_factory=dict)  # name: when it was used last

    def attach(self, source: Source) -> str:
        """Put the adapter on the model unless it is there; return the name that PEFT knows it by.

        Raises NoAdapter where its files are none, and UserError where they do not fit the model, which has
        then to be loaded anew.
        """
        if source.adapter is None:
            return BASE
        if source.key not in self.adapters:
            _check_files(source)
            self._make_room()
            _load_adapter(self.batch, source)
        self.adapters[source.key] = time.monotonic()
        return source.key

    def _make_room(self) -> None:
        needed = {stream.adapter for stream in self.batch.streams}
        idle = sorted((used, name) for name, used in self.adapters.items() if name not in needed)
        if len(self.adapters) >= MOST_ADAPTERS and idle:
            _, name = idle[0]
            self.batch.model.delete_adapter(name)
            del self.adapters[name]


class Shelf:
    """The loaded models; the one that was idle longest makes room for another."""

    def __init__(self) -> None:
        self.loaded: dict[tuple[Any, ...], Loaded] = {}
        self._loading = Lock()  # one at a time: two side by side take longer than one after another
        self._free = Condition()  # not held while a model loads, so that other answers go on

    def take(self, source: Source, report: Report) -> Loaded:
        """Return the source's base model, loaded now if need be, with one more user; `release` it after.

        Raises UserError where the model cannot be had.
        """
        params = fitting(source.model)
        key = tuple(params.model_dump().values())
        if loaded := self._in_memory(key):
            return loaded
        with self._loading:
            if loaded := self._in_memory(key):
                return loaded
            self._make_room(report)
            loaded = _load(params, report)
            with self._free:
                loaded.users += 1
                self.loaded[key] = loaded
            return loaded

    def _in_memory(self, key: tuple[Any, ...]) -> Loaded | None:
        with self._free:
            if loaded := self.loaded.get(key):
                loaded.users += 1
            return loaded

    def release(self, loaded: Loaded) -> None:
        """Say that an answer needs the model no longer."""
        with self._free:
            loaded.users -= 1
            loaded.used = time.monotonic()
            self._free.notify_all()

    def discard(self, loaded: Loaded) -> None:
        """Forget a model that something went wrong with; it is loaded anew when it is asked for."""
        with self._free:
            self.loaded = {key: other for key, other in self.loaded.items() if other is not loaded}
            self._free.notify_all()

    def _make_room(self, report: Report) -> None:
        with self._free:
            while len(self.loaded) >= MOST_MODELS:
                idle = [(loaded.used, key) for key, loaded in self.loaded.items() if not loaded.users]
                if idle:
                    del self.loaded[min(idle)[1]]
                else:
                    report("waiting for another model to be free")
                    self._free.wait(timeout=1)


def fitting(params: ModelParams) -> ModelParams:
    """Return how to load a model here: what was trained on a GPU answers on a CPU too, unquantized."""
    import torch

    if torch.cuda.is_available():
        if params.dtype == "bfloat16" and not torch.cuda.is_bf16_supported(False):
            return params.model_copy(update={"dtype": "float16"})
        return params
    dtype = "bfloat16" if params.dtype == "float16" else params.dtype
    return params.model_copy(update={"dtype": dtype, "load_in_4bit": False})


def _load(params: ModelParams, report: Report) -> Loaded:
    report(f"fetching the base model {params.reference}, if it is not here yet")
    resolved = loading.resolve(params.reference)
    report("reading the tokenizer")
    tokenizer = loading.load_tokenizer(resolved)
    report("reading the weights")
    model, stop_ids = loading.load_to_answer(resolved, tokenizer, params)
    context = getattr(model.config.get_text_config(), "max_position_embeddings", MOST_CONTEXT)
    return Loaded(tokenizer, stop_ids, Batch(model, stop_ids), min(context, MOST_CONTEXT))


def _check_files(source: Source) -> None:
    """Raise NoAdapter for weights that are cut off, or none; without them PEFT would load a pickle."""
    assert source.adapter
    try:
        weights.check_file(source.adapter / KEPT[1])
    except UserError as error:
        raise NoAdapter(_unfit(source, error)) from error


def _unfit(source: Source, error: Exception) -> str:
    reason = str(error).strip().partition("\n")[0]
    return f"{source.name}: its adapter cannot be put on {source.model.reference}: {reason}"


def _load_adapter(batch: Batch, source: Source) -> None:
    from peft import PeftModel
    from safetensors import SafetensorError

    assert source.adapter
    try:
        if hasattr(batch.model, "peft_config"):
            batch.model.load_adapter(source.adapter, adapter_name=source.key)
        else:
            batch.model = PeftModel.from_pretrained(batch.model, source.adapter, adapter_name=source.key)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(_unfit(source, error)) from error
    batch.model.eval()
