"""Options that a text judges line by line; docs/scored_examples.md has the verdicts."""

from ray_bridge.tasks.judged import begins_with_options, judged_lines, judgement, option_lines, walks_through


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
    lines = judged_lines(option_lines("- A: wrong\n- B. Mars\nOption C: ✓", "ABCD"))
    assert [(one.letter, one.is_right) for one in lines] == [("A", False), ("B", None), ("C", True)]
    assert judged_lines(option_lines("A. Venus\nB. Mars", "ABCD")) == []
    assert judged_lines(option_lines("A. Venus ✗", "ABCD")) == []


def test_lines_below_an_option_judge_it_up_to_one_that_concludes_or_names_another() -> None:
    texts = {
        "A. Venus\nIncorrect.\nB. Mars\n- It is red.\n- This is correct.": [False, True],
        "A. Venus\nB. Mars\nThe correct answer: Mars. This is correct.": [None, None],
        "A. Venus\nC is near, so it is wrong.\nB. Mars": [None, None],
        "A. Venus\n\nSo this option is wrong.\nB. Mars": [False, None],
        "A. Venus\nThis is wrong.": [False],
        "A. Venus\nMars is cold, so it is wrong.": [None],
    }
    assert {text: [one.is_right for one in option_lines(text, "ABCD")] for text in texts} == texts


def test_a_text_begins_with_options_or_with_its_answer() -> None:
    texts = {
        "A. Venus\nB. Mars": True,
        "A. Venus\n\nB. Mars\nC. Mercury is wrong": True,
        "A. Venus\nThis is wrong.": True,
        "A.\nB. is wrong\nC. is wrong": False,
        "A. is right\nB.": False,
        "A. Venus\nIt is hot.\nB. Mars": False,
        "C. Mercury\nA. Venus\nB. Mars": False,
        "Options:\nA. Venus\nB. Mars": False,
        "A. Venus": False,
        "": False,
    }
    assert {text: begins_with_options(text, option_lines(text, "ABC")) for text in texts} == texts
    assert walks_through(option_lines("A. Venus\nhot\nB. Mars\nC. Mercury", "ABC"), "ABC")
    assert not walks_through(option_lines("A. Venus\nC. Mercury\nB. Mars", "ABC"), "ABC")
