"""The trainer's settings: what decides the mathematics is said in full."""

from typing import Any

import torch
from trl import SFTConfig

from sft.training import compat
from sft.training.train_params import TrainParams


def trainer_config(
    params: TrainParams,
    dtype: str,
    folder: str,
    rows: int,
    validation_rows: int,
    checkpointing: bool,
    validate_first: bool,
    rank: int = 0,
) -> Any:
    """Return the settings for training once over so many rows; `folder` is the trainer's own scratch.

    `validate_first` has the validation loss taken before the first step that is made. Each `rank` draws
    random numbers of its own, which are dropout's: what all ranks have alike has been drawn before.

    Nothing is left to defaults that matter, because Unsloth gives SFTConfig others.
    """
    config = SFTConfig(
        output_dir=folder,
        max_steps=rows // params.batch_size,
        # A batch is a whole step; PackedTrainer cuts it.
        per_device_train_batch_size=params.batch_size,
        per_device_eval_batch_size=validation_rows,
        gradient_accumulation_steps=1,
        max_grad_norm=1.0,
        learning_rate=params.learning_rate,
        lr_scheduler_type=params.lr_scheduler,
        warmup_steps=params.warmup_steps,
        weight_decay=params.weight_decay,
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        optim=params.optimizer,
        bf16=dtype == "bfloat16",
        fp16=dtype == "float16",
        gradient_checkpointing=checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        loss_type="nll",
        max_length=None,
        packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        train_sampling_strategy="sequential",
        eval_strategy="steps",
        eval_steps=params.validation_every,
        eval_on_start=validate_first,
        logging_steps=1,
        save_strategy="no",  # Keeper says when
        report_to="none",
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        seed=(params.seed + rank) % 2**32,
        data_seed=params.seed,
        dataloader_num_workers=0,
    )
    compat.use_one_gpu(config)
    return config
