"""Check what a translator is asked for before it is loaded: its place and the text of a question. Free of torch."""

from pathlib import Path

from bridge_common.errors import UserError
from bridge_common.trial_folder import TrialFolder

CONFIG_FILE = "config.json"
HOTTEST = 100.0
"""Highest temperature; all tokens are equally likely long before."""


def folder_of(place: str | Path) -> Path | None:
    """Return the folder that a place names; None for a name that may be on the hub.

    Raises:
        UserError: if it is neither, or a folder of something else.
    """
    folder = Path(place).expanduser()
    if not folder.exists() and _may_be_on_hub(str(place)):
        return None
    if not folder.is_dir():
        raise UserError(f"{place}: no such folder; name a trial's (STORAGE/CAMPAIGN/trials/NAME) or an exported one")
    return check_folder(folder)


def check_folder(folder: Path) -> Path:
    """Return a folder that holds a translator.

    Raises:
        UserError: if it does not, as a trial's before its training has ended.
    """
    trial = TrialFolder(folder)
    if (folder / CONFIG_FILE).is_file():
        return folder
    if trial.begun:
        trial.require_selected()
        return folder
    raise UserError(
        f"{folder} holds no translator: name a trial's folder, STORAGE/CAMPAIGN/trials/NAME, or one that was exported"
    )


def check_question_text(text: str) -> None:
    """Refuse a question that no model can read.

    Raises:
        UserError: if the text is empty, or was not valid UTF-8.
    """
    if not text.strip():
        raise UserError("the question is empty")
    check_unicode("the question", text)


def check_unicode(what: str, text: str) -> None:
    """Refuse a text that has no form in UTF-8.

    Raises:
        UserError: if it holds half a surrogate pair, as JSON can; `what` names the text.
    """
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UserError(f"{what} is no valid Unicode text (it has a lone surrogate): give it in UTF-8")


def _may_be_on_hub(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))
