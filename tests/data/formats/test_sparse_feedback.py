"""Sparse feedback: a rating or a ranking, with the order that the judge was shown."""

from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Source
from attune.data.formats.sparse_feedback import FORMAT
from attune.data.group import merge

SOURCE = Source(file="sparse.jsonl", line=1, format="sparse_feedback")
ASKED: dict[str, Any] = {"instruction": "Ask how long.", "input": "Sentence: It rained."}
RATED = ASKED | {"kind": "rating", "output": "How long did it rain?", "rating": "6"}
RANKED = ASKED | {"kind": "ranking", "output1": "Did it rain?", "output2": "How long did it rain?", "ranking": "(b)"}


def test_a_rating_is_on_a_scale_of_seven() -> None:
    (group,) = FORMAT.parse(RATED, SOURCE)
    assert FORMAT.recognises(RATED)
    assert group.prompt.content == ({"role": "user", "content": "Ask how long.\n\nSentence: It rained."},)
    assert [(rating.value, rating.scale, rating.annotator) for rating in group.ratings] == [(6.0, (1.0, 7.0), "judge:gpt-3.5-turbo")]
    assert [response.content for response in group.responses] == ["How long did it rain?"]


@pytest.mark.parametrize(("said", "tiers"), [("(a)", ((0,), (1,))), ("(b)", ((1,), (0,))), ("equal", ((0, 1),))])
def test_a_ranking_is_a_verdict_in_the_order_shown(said: str, tiers: tuple[tuple[int, ...], ...]) -> None:
    (group,) = FORMAT.parse(RANKED | {"ranking": said}, SOURCE)
    assert FORMAT.recognises(RANKED)
    assert [(verdict.tiers, verdict.presented) for verdict in group.verdicts] == [(tiers, (0, 1))]


def test_a_rating_and_a_ranking_of_one_question_join() -> None:
    (group,) = merge([*FORMAT.parse(RATED, SOURCE), *FORMAT.parse(RANKED, SOURCE)])
    assert [response.content for response in group.responses] == ["How long did it rain?", "Did it rain?"]
    # (b) was the text that was also rated, which stands first in the joined group
    assert [(verdict.tiers, verdict.presented) for verdict in group.verdicts] == [(((0,), (1,)), (1, 0))]
    assert [rating.response for rating in group.ratings] == [0]


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (RATED | {"rating": "8"}, "rating"),
        (RATED | {"rating": "good"}, "rating"),
        (RANKED | {"ranking": "(c)"}, "ranking"),
        (RATED | {"kind": "note"}, "kind"),
        (RANKED | {"kind": "rating"}, "rating"),
        (RANKED | {"output2": None}, "output2"),
    ],
)
def test_a_wrong_value_names_its_field(record: dict[str, Any], field: str) -> None:
    with pytest.raises(RecordError) as caught:
        list(FORMAT.parse(record, SOURCE))
    assert caught.value.field == field
