"""What the pipeline's training is measured against, each in a process of its own.

    python -m benchmarks.contestants study|plain|bare|bare-128 MODEL WORKSPACE STEPS

`study` is the study's recipe: Unsloth, 4-bit, 2 rows x 4 accumulated, gradient checkpointing, float16.
`plain` is the same through TRL, PEFT and bitsandbytes, in bfloat16. `bare` is the limit: forward and backward
passes of the same 16-bit model and LoRA on packed rows that lie ready on the card, and Liger's loss; no
optimizer, no log. In steps of 24 rows (about 16,000 tokens) and of 8, the study's; `bare-128` of 128. With
and without the deterministic gradient. Prints one line of JSON: for each row of the table tokens and
seconds by step.
"""

import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from sft.core import shards
from sft.core.provenance import versions
from sft.core.row_schema import conversation
from stages.paths import MIX

LORA: dict[str, Any] = {"r": 16, "lora_alpha": 16, "lora_dropout": 0.0}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]


def study(folder: str, workspace: Path, steps: int) -> dict[str, Any]:
    """Train as the study's notebook does."""
    import unsloth  # noqa: F401, I001
    import torch
    from unsloth import FastLanguageModel

    model, tokenizer = FastLanguageModel.from_pretrained(
        model_name=folder,
        max_seq_length=2048,
        dtype=torch.float16,
        load_in_4bit=True,
        use_exact_model_name=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    model = FastLanguageModel.get_peft_model(
        model, **LORA, target_modules=TARGETS, bias="none", use_gradient_checkpointing="unsloth"
    )
    return sft_trainer(model, tokenizer, workspace, steps)


def plain(folder: str, workspace: Path, steps: int) -> dict[str, Any]:
    """Train the same through TRL, PEFT and bitsandbytes."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    base = AutoModelForCausalLM.from_pretrained(
        folder,
        trust_remote_code=False,
        dtype=torch.bfloat16,
        device_map={"": 0},
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        ),
    )
    model: Any = get_peft_model(base, LoraConfig(**LORA, target_modules=TARGETS, task_type="CAUSAL_LM"))
    # TRL makes the LoRA of a 4-bit model bfloat16, which float16's loss scaling does not take.
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return sft_trainer(model, tokenizer, workspace, steps, bf16=True)


def sft_trainer(
    model: Any, tokenizer: Any, workspace: Path, steps: int, bf16: bool = False
) -> dict[str, Any]:
    """Train with TRL's SFTTrainer as it comes; count the tokens that its collator does not pad with."""
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    texts = [
        {"text": tokenizer.apply_chat_template(conversation(row)[0], tokenize=False)}
        for row in shards.read(workspace / MIX, ["messages"]).slice(0, steps * 8).to_pylist()
    ]
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(texts),
        args=SFTConfig(
            output_dir=str(workspace / "scratch"),
            dataset_text_field="text",
            max_length=2048,
            packing=False,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=4,
            gradient_checkpointing=True,
            warmup_steps=5,
            max_steps=steps,
            learning_rate=2e-4,
            optim="adamw_8bit",
            weight_decay=0.01,
            lr_scheduler_type="linear",
            fp16=not bf16,
            bf16=bf16,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            seed=3407,
        ),
    )
    tokens: list[int] = []
    ends: list[float] = []
    collate = trainer.data_collator

    def counting(rows: Any) -> Any:
        batch = collate(rows)
        mask = batch.get("attention_mask")
        tokens.append(int(mask.sum()) if mask is not None else batch["input_ids"].numel())
        return batch

    class Timer(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            torch.cuda.synchronize()
            ends.append(time.perf_counter())

    trainer.data_collator = counting
    trainer.add_callback(Timer())
    trainer.train()
    return {
        "tokens": [sum(tokens[n * 4 : n * 4 + 4]) for n in range(steps)],
        "seconds": [after - before for before, after in pairwise(ends)],
    }


def bare(folder: str, workspace: Path, steps: int, sizes: list[int]) -> dict[str, Any]:
    """Run forward and backward passes on packed rows that lie ready on the card, `sizes` rows in each."""
    import torch
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    from sft.modeling.loading import ModelParams, load_tokenizer, resolve
    from sft.modeling.packing import pack
    from sft.training.budget import Budget
    from sft.training.engines import prepare
    from sft.training.lora import LoraParams
    from sft.training.packed_trainer import deterministic_algorithms
    from sft.training.stored_rows import ShardRows
    from sft.training.tokenized_dataset import read
    from sft.training.tokenizing import RowShape

    engine = prepare("trl")
    base = resolve(folder)
    tokenizer = load_tokenizer(base)
    params = ModelParams(reference=folder, dtype="bfloat16", load_in_4bit=False)
    lora = LoraParams(r=16, alpha=16, dropout=0.0, target_modules=TARGETS)
    mix = ShardRows(workspace / MIX)
    shape = RowShape(2048, "truncate", "all")
    # Before the model is loaded, for it may fork processes.
    rows_of = {size: read(mix, Budget(steps * size, "rows"), tokenizer, shape, 42).rows for size in sizes}
    model = engine.load(base, params, lora, 2048, 0)
    model.train()
    causal = model.get_base_model()
    loss_of = LigerFusedLinearCrossEntropyLoss(reduction="sum")
    figures = {}
    for size, rows in rows_of.items():
        batches = [pack(rows[start : start + size], "cuda") for start in range(0, len(rows), size)]
        for same_order in (False, True):
            torch.cuda.reset_peak_memory_stats()
            seconds = []
            for batch in batches:
                torch.cuda.synchronize()
                start = time.perf_counter()
                with torch.autocast("cuda", torch.bfloat16):
                    hidden = causal.base_model(**engine.inputs(batch)).last_hidden_state[0]
                    loss = loss_of(causal.lm_head.weight, hidden[batch.predicting], batch.targets)
                with deterministic_algorithms(same_order):
                    loss.backward()
                model.zero_grad()
                torch.cuda.synchronize()
                seconds.append(time.perf_counter() - start)
            figures[f", {size} rows{', deterministic' if same_order else ''}"] = {
                "tokens": [sum(batch.lengths) for batch in batches],
                "seconds": seconds,
                "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1),
            }
    return figures


def main() -> None:
    """Run the contestant named on the command line."""
    import torch

    name, folder, workspace, steps = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    if name.startswith("bare"):
        figures = bare(folder, workspace, steps, [128] if name == "bare-128" else [24, 8])
    else:
        figures = {"": {"study": study, "plain": plain}[name](folder, workspace, steps)}
        figures[""]["peak_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
    for row in figures.values():
        row |= {"device": torch.cuda.get_device_name(), "versions": versions()}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
