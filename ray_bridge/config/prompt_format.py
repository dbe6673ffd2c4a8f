"""Whether the models of a job can read its prompts: known from a checkpoint's files, before anything is loaded."""

import json
from pathlib import Path

from bridge_common.errors import UserError
from ray_bridge.config.checkpoint_names import resolve
from ray_bridge.config.spec import JobSpec


def check_prompt_format(spec: JobSpec) -> None:
    """Refuse a job with conversations whose models have no chat template; models of the hub are checked when loaded.

    Raises:
        UserError: in one line, which model has none.
    """
    for name in (spec.source, spec.target) if spec.prompt_format == "chat" else ():
        place = Path(resolve(name))
        if place.is_dir() and not _has_chat_template(place):
            raise UserError(no_chat_template(name))


def no_chat_template(name: str) -> str:
    """Return the message on a model without a chat template."""
    return (
        f"{name} has no chat template: use --set prompt_format=raw, or a checkpoint whose tokenizer has one "
        "(chat_template.jinja)"
    )


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file() or any(folder.glob("additional_chat_templates/*.jinja")):
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and bool(json.loads(config.read_text(encoding="utf-8")).get("chat_template"))
