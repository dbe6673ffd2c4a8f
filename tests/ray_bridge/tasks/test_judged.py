"""Options that a text judges line by line; docs/scored_examples.md has the verdicts."""

from ray_bridge.tasks.judged import judged_lines, judgement


def test_what_a_line_says_of_its_own_option() -> None:
    said = {
        "Venus is hot, so this option is incorrect.": False,
        " can be ruled out.": False,
        "Venus is hot. So A is not the answer.": False,
        "This eliminates A.": False,
        "错误": False,
        "(Correct)": True,
        " is correct": True,
        "正确": True,
        "B is wrong": None,
        "The other options are wrong.": None,
        "It is wrong to say that Mars is hot.": None,
        "其他都错误": None,
    }
    assert {rest: judgement(rest, "A") for rest in said} == said


def test_a_list_has_two_options_and_a_judgement() -> None:
    lines = judged_lines("- A: wrong\n- B. Mars\nOption C: ✓", "ABCD")
    assert [(one.letter, one.is_right) for one in lines] == [("A", False), ("B", None), ("C", True)]
    assert judged_lines("A. Venus\nB. Mars", "ABCD") == []
    assert judged_lines("A. Venus ✗", "ABCD") == []
