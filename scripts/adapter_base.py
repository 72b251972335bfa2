"""Is the workspace's adapter there, and is it one of the base model that params.yaml names?"""

from pathlib import Path

from sft.core.errors import ParamError, UserError
from sft.core.files import read_json
from sft.modeling import adapter
from sft.modeling.loading import Resolved
from stages.paths import ADAPTER


def check_files() -> None:
    """Raise UserError where a file of the adapter is not there."""
    for name in adapter.KEPT:
        if not (Path(ADAPTER) / name).exists():
            raise UserError(
                f"{ADAPTER}/{name}: no such file. Run the stage that writes it: dvc repro train. Or fetch "
                "what has run elsewhere: make pull"
            )


def check_base(base: Resolved) -> None:
    """Raise ParamError where the adapter was trained on another model than model.reference is now."""
    config = read_json(Path(ADAPTER) / "adapter_config.json")
    trained = (config.get("base_model_name_or_path"), config.get("revision"))
    if trained != (base.reference, base.revision):
        at, now = (f" at {revision}" if revision else "" for revision in (trained[1], base.revision))
        raise ParamError(
            f"model.reference: it is {base.reference}{now}, but {ADAPTER} was trained on {trained[0]}{at}. "
            "Run the stages before: dvc repro train"
        )
