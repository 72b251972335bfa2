"""How to use the adapter: with the base model that it was trained on, however that is had."""

from dataclasses import dataclass

from sft.card.markdown import code
from sft.card.run import Run

_HUB = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer{imported}

base = {{"pretrained_model_name_or_path": {name!r}, "revision": {revision!r}}}
tokenizer = AutoTokenizer.from_pretrained(**base)
model = AutoModelForCausalLM.from_pretrained(**base, dtype={dtype!r}{quantized})
model = PeftModel.from_pretrained(model, "models/adapter")
{answer}"""
_OURS = """\
from peft import PeftModel
from sft.modeling import loading

base = loading.resolve({reference!r})
tokenizer = loading.load_tokenizer(base)
model = PeftModel.from_pretrained(loading.load_model(base, {dtype!r}{quantized}), "models/adapter")
{answer}"""
_ANSWER = """\
prompt = tokenizer.apply_chat_template(
    [{"role": "user", "content": "..."}],
    add_generation_prompt=True,
    return_dict=True,
    return_tensors="pt",
    date_string="26 Jul 2024",  # where the template prints a date: that of training
).to(model.device)
print(tokenizer.decode(model.generate(**prompt, max_new_tokens=128)[0], skip_special_tokens=True))"""
_NF4 = (
    ",\n    quantization_config=BitsAndBytesConfig(\n        load_in_4bit=True,\n"
    '        bnb_4bit_quant_type="nf4",\n        bnb_4bit_use_double_quant=True,\n'
    "        bnb_4bit_compute_dtype={dtype!r},\n    ),\n"
)


@dataclass(frozen=True)
class Usage:
    """What stands before the code, the code, and what stands after it."""

    before: str
    code: str
    after: str


def usage(run: Run) -> Usage:
    """Return how to use the adapter: by PEFT and transformers, or from a clone for any other base model."""
    model = run.model
    where = "`models/adapter` is the adapter's folder, or this repository's name on the hub."
    tools = (
        "In a clone `make chat` opens it in a browser, and `make export` writes merged weights and GGUF "
        "files for llama.cpp and Ollama."
    )
    if run.base.scheme == "model":
        text = _HUB.format(
            name=run.base.name,
            revision=run.train.base_model.resolved,
            dtype=model.dtype,
            imported=", BitsAndBytesConfig" if model.load_in_4bit else "",
            quantized=_NF4.format(dtype=model.dtype) if model.load_in_4bit else "",
            answer=_ANSWER,
        )
        return Usage(f"With PEFT. {where}", text, tools)
    text = _OURS.format(
        reference=run.base_reference,
        dtype=model.dtype,
        quantized=", load_in_4bit=True" if model.load_in_4bit else "",
        answer=_ANSWER,
    )
    before = (
        f"With PEFT, in a clone of the repository that it was made in, which knows how to load "
        f"{code(run.base_reference)}. {where}"
    )
    if run.base_id:
        tools = (
            f"[{run.base_id}](https://huggingface.co/{run.base_id}) on the hub is the same base model with "
            f"its original weights. The adapter was trained and scored on {run.train.base_model.weights} "
            f"ones; with the original ones it has not been scored. {tools}"
        )
    return Usage(before, text, tools)
