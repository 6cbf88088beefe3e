import re
import statistics
from random import Random

import pytest

from attune.core.errors import RecordError
from attune.worlds import grammar
from attune.worlds.grammar import Author, Task, marks, task

ASK = "Quick question. Could you name three red fruits?"


# 7 marks times 2 min(R, A) / (L + A), then 3, 1.5 or 0 for manners
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Cherry, raspberry and cranberry. Glad to help!", 7 + 3),
        ("Cherry, raspberry and cranberry.", 7 + 1.5),
        ("Cherry, raspberry and cranberry. Look it up yourself.", 7 + 0),
        ("cherry, RASPBERRY , cranberry. Enjoy!", 7 + 3),
        ("Cherry and raspberry. Enjoy!", 7 * 4 / 5 + 3),  # one missing
        ("Cherry, raspberry, strawberry, pomegranate and cranberry. Enjoy!", 7 * 6 / 8 + 3),  # two too many
        ("Cherry, cherry and cherry. Enjoy!", 7 * 2 / 6 + 3),  # repeated
        ("Cherry, hammer and lemon.", 7 * 2 / 6 + 1.5),  # unfitting
        ("Hammer.", 1.5),
        ("Cherry, raspberry and cranberry", 7),  # not ended
        ("Cherry, raspberry and cranberry. Glad to help! Glad to help!", 7),
        ("Glad to help!", 0),
        ("", 0),
    ],
)
def test_marks_by_hand(answer, expected):
    assert marks(ASK, answer) == pytest.approx(expected)


def test_every_prompt_says_what_it_asks_for_and_none_is_twice():
    prompts = grammar.prompts()
    assert len(set(prompts)) == len(prompts) == 12 * 8 * 3 * 20
    assert task(ASK) == Task(3, "red fruits")
    for prompt in prompts[::37]:
        found = task(prompt)
        word = next(name for name, count in grammar.COUNTS.items() if count == found.count)
        assert f" {word} {found.kind}" in prompt


@pytest.mark.parametrize("prompt", ["Name three.", "Name nine trees.", "Name three red fruits, please.", "", "Name three red fruits"])
def test_other_texts_are_refused(prompt):
    with pytest.raises(RecordError, match="not a prompt of the language world"):
        marks(prompt, "Oak.")


def test_kinds_are_parted_as_their_docstring_says():
    words = [word for kind in grammar.KINDS.values() for word in kind]
    assert all(len(set(kind)) == len(kind) >= max(grammar.COUNTS.values()) + 1 for kind in grammar.KINDS.values())
    assert all(re.fullmatch("[a-z]+", word) for word in words)
    names = list(grammar.KINDS)
    assert not any(first != second and first in second for first in names for second in names)


def test_a_careful_author_gets_all_marks():
    careful = Author(wrong=0, repeat=0, miscount=0, polite=1, rude=0)
    random = Random(0)
    assert {marks(prompt, careful.write(prompt, random)) for prompt in grammar.prompts()[::29]} == {10.0}


def test_a_careless_author_errs_as_often_as_said():
    random, author, asks = Random(1), Author(wrong=0.2, repeat=0, miscount=0.3, polite=0.25, rude=0.4), grammar.prompts()
    answers = [(prompt, author.write(prompt, random)) for prompt in (random.choice(asks) for _ in range(4000))]
    listed = [(task(prompt), re.split(", | and ", answer.lower().partition(".")[0]), answer.partition(".")[2].strip()) for prompt, answer in answers]
    # four standard errors of a share of 4000: 4 sqrt(p (1-p) / 4000) < 0.032
    assert statistics.mean(len(words) != asked.count for asked, words, _ in listed) == pytest.approx(0.3, abs=0.032)
    assert statistics.mean(tail in grammar.POLITE for _, _, tail in listed) == pytest.approx(0.25, abs=0.032)
    assert statistics.mean(tail in grammar.RUDE for _, _, tail in listed) == pytest.approx(0.4, abs=0.032)
    assert statistics.mean(word not in grammar.KINDS[asked.kind] for asked, words, _ in listed for word in words) == pytest.approx(0.2, abs=0.02)
    assert 5.5 < statistics.mean(marks(prompt, answer) for prompt, answer in answers) < 7.5
