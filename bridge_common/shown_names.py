"""How what is recorded under a key is called in what people read: conditions, and groups of test items."""

_WORDS = {"none": "numerals", "seen": "seen words", "transfer": "transfer words"}
_GROUPS = {
    (source, value): name
    for source in ("synthetic", "words")  # the task, and the key of its groups
    for value, name in _WORDS.items()
}


def condition_name(condition: str) -> str:
    """Return how a condition is called in tables and sentences, as `target alone`."""
    return condition.replace("_", " ")


def group_name(value: str, source: str | None) -> str:
    """Return how a group of test items is called in tables.

    Args:
        value: its recorded name.
        source: the task that names it, or the key under which the task groups its items, as far as it is known. Most
            tasks' groups have names that can be read as they are.
    """
    return _GROUPS.get((source or "", value), value)
