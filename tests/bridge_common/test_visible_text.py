"""Control characters in text that others wrote are shown."""

from bridge_common.visible_text import visible


def test_control_characters_show_and_lines_stay() -> None:
    assert visible("\x1b[31m\n\t\x7f\r\x9b2J") == "␛[31m\n\t␡␍\\x9b2J"
    assert visible("naïve \u2028 数") == "naïve \u2028 数"
    assert visible("txt.\u202egnp\u202c \u2067x\u2069") == "txt.\\u202egnp\\u202c \\u2067x\\u2069"
    assert visible("שלום \u200f!") == "שלום \u200f!"
