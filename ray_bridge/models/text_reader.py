"""What of a model decides which ids a text becomes: known from its tokenizer's files, without its weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from bridge_common.errors import UserError, reason_of
from ray_bridge.config.checkpoint_names import resolve
from ray_bridge.footprint.model_shape import local_folder
from ray_bridge.footprint.weight_files import AGAIN
from ray_bridge.models.chat_template import ChatTemplate
from ray_bridge.models.weights import auto_classes

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "spiece.model")
"""Files of which a checkpoint with a tokenizer has one; a folder may hold a model's configuration alone."""


class TextReader(Protocol):
    """A model as it reads texts; see `FrozenLM`, which is one."""

    @property
    def name(self) -> str:
        """Of the model, for messages."""

    @property
    def tokenizer(self) -> Any:
        """Its fast tokenizer."""

    @property
    def chat(self) -> ChatTemplate | None:
        """How it writes conversations, None if it reads text as it is."""

    @property
    def bos(self) -> int:
        """The id that opens text."""

    @property
    def eos(self) -> int:
        """The id that ends an answer."""


@dataclass(frozen=True, kw_only=True)
class UnloadedReader:
    """A model that is not loaded, for counting: which ids open and end its texts is in the files of its weights.

    Attributes:
        name: as in `TextReader`.
        tokenizer: as in `TextReader`.
        chat: as in `TextReader`.
        bos: stands for the id that opens text.
        eos: stands for the id that ends an answer.
    """

    name: str
    tokenizer: Any
    chat: ChatTemplate | None
    bos: int = -1
    eos: int = -1

    @classmethod
    def load(
        cls, name: str, *, revision: str | None = None, prompt_format: Literal["raw", "chat"]
    ) -> "UnloadedReader | None":
        """Load a model's tokenizer; return None if it is not on this machine.

        Args:
            name: of the checkpoint, as `FrozenLM.load` takes it.
            revision: of a hub name.
            prompt_format: as in `FrozenLM.reading`.

        Raises:
            UserError: if the tokenizer's files are damaged, or it has no usable chat template where one is needed.
        """
        folder = local_folder(name, revision)
        if folder is None or not any((folder / name).is_file() for name in TOKENIZERS):
            return None
        file = folder / "tokenizer.json"
        try:
            if prompt_format == "raw" and file.is_file():  # in a third of the time that importing AutoTokenizer takes
                from transformers import PreTrainedTokenizerFast

                tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file))
            else:
                tokenizer = auto_classes()[1].from_pretrained(folder)
        except Exception as error:  # tokenizers' own have no type
            raise UserError(f"cannot load the tokenizer of {folder} ({reason_of(error)}): {AGAIN}") from error
        check_fast(tokenizer, name)
        name = Path(resolve(name)).name
        return cls(
            name=name, tokenizer=tokenizer, chat=ChatTemplate(tokenizer, name) if prompt_format == "chat" else None
        )


def check_fast(tokenizer: Any, name: str) -> None:
    """Refuse a tokenizer that does not say where in a text its tokens are.

    Raises:
        UserError: with the remedy.
    """
    if not tokenizer.is_fast:
        raise UserError(f"{name} has no fast tokenizer: offsets are needed; save one with tokenizer.save_pretrained")
