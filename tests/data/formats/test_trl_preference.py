"""TRL preference: text and turns, the prompt beside the sides or inside them, scores beside them."""

from __future__ import annotations

from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Group, Prompt, Response, Source, Verdict
from attune.data.formats.trl_preference import FORMAT

HERE = Source(file="f.jsonl", line=1, format="trl_preference")
ASK = {"role": "user", "content": "What colour is the sky?"}
BLUE, GREEN = ({"role": "assistant", "content": f"It is {colour}."} for colour in ("blue", "green"))
TEXTS = ("It is blue.", "It is green.")


def only(record: dict[str, Any]) -> Group:
    assert FORMAT.recognises(record)
    (group,) = FORMAT.parse(record, HERE)
    assert group.verdicts == (Verdict(tiers=((0,), (1,))),)
    assert group.source == HERE
    return group


@pytest.mark.parametrize(
    ("record", "prompt", "sides"),
    [
        ({"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}, "The sky is", (" blue.", " green.")),
        ({"chosen": "The sky is blue.", "rejected": "The sky is green."}, "The sky is", (" blue.", " green.")),
        ({"prompt": [ASK], "chosen": [BLUE], "rejected": [GREEN]}, (ASK,), TEXTS),
        ({"chosen": [ASK, BLUE], "rejected": [ASK, GREEN]}, (ASK,), TEXTS),
        ({"prompt": ASK["content"], "chosen": [BLUE], "rejected": [GREEN]}, (ASK,), TEXTS),
        ({"prompt": ASK["content"], "chosen": [ASK, BLUE], "rejected": [ASK, GREEN], "messages": [ASK, BLUE]}, (ASK,), TEXTS),
        ({"prompt": [ASK], "chosen": [ASK, BLUE], "rejected": [ASK, GREEN]}, (ASK,), TEXTS),
        ({"prompt": None, "chosen": [ASK, BLUE], "rejected": [ASK, GREEN]}, (ASK,), TEXTS),
        ({"prompt": [ASK], "chosen": TEXTS[0], "rejected": TEXTS[1]}, (ASK,), TEXTS),
    ],
)
def test_every_form_gives_the_same_pair(record: dict[str, Any], prompt: Any, sides: tuple[str, str]) -> None:
    group = only(record)
    assert group.contexts == {"main": Prompt(content=prompt)}
    assert tuple(response.content for response in group.responses) == sides
    assert group.meta == {}


def test_scores_ids_and_the_rest_find_their_places() -> None:
    record = {
        "prompt": "p",
        "chosen": "a",
        "rejected": "b",
        "score_chosen": 8.5,
        "score_rejected": 0,
        "prompt_id": "77",
        "source": "s",
        "tools": [{"name": "t"}],
    }
    group = only(record)
    assert group.id == "77"
    assert [dict(response.scores) for response in group.responses] == [{"score": 8.5}, {"score": 0}]
    assert group.meta == {"source": "s"}
    assert group.prompt.tools == ({"name": "t"},)
    # an absent score is no 0
    assert [dict(response.scores) for response in only({**record, "score_rejected": None}).responses] == [{"score": 8.5}, {}]


def test_a_name_made_from_the_prompt_is_the_same_for_all_its_pairs() -> None:
    one, two, other = (only({"prompt": prompt, "chosen": answer, "rejected": "b"}) for prompt, answer in (("p", "x"), ("p", "y"), ("q", "x")))
    assert one.id == two.id != other.id
    assert len(one.id) == 16


def test_texts_that_share_no_word_have_no_prompt() -> None:
    group = only({"chosen": "Blue.", "rejected": "Green."})
    assert group.contexts == {}
    assert group.untrainable == "the source holds no prompt"
    assert group.responses == (Response(content="Blue."), Response(content="Green."))


@pytest.mark.parametrize(
    ("record", "field"),
    [
        ({"prompt": "p", "chosen": "a", "rejected": [BLUE]}, "rejected"),
        ({"prompt": "", "chosen": "a", "rejected": "b"}, "prompt"),
        ({"prompt": 7, "chosen": "a", "rejected": "b"}, "prompt"),
        ({"prompt": "p", "rejected": "b"}, "chosen"),
        ({"chosen": [ASK, BLUE], "rejected": [{**ASK, "content": "?"}, GREEN]}, "chosen"),
        ({"prompt": "another", "chosen": [ASK, BLUE], "rejected": [ASK, GREEN]}, "prompt"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": "9"}, "score_chosen"),
        ({"prompt": "p", "chosen": "a", "rejected": "b", "id": [1]}, "id"),
        ({"prompt": [ASK], "chosen": [BLUE, ASK], "rejected": [GREEN]}, "chosen[1].role"),
        ({"prompt": [{"role": "robot", "content": "x"}], "chosen": [BLUE], "rejected": [GREEN]}, "prompt[0].role"),
    ],
)
def test_the_field_at_fault_is_named(record: dict[str, Any], field: str) -> None:
    with pytest.raises(RecordError) as caught:
        list(FORMAT.parse(record, HERE))
    assert caught.value.field == field
