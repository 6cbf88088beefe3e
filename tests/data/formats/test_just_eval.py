"""just-eval: grades on several aspects, one of which the judge did not give."""

from typing import Any

import pytest

from attune.core.errors import RecordError
from attune.core.record import Source
from attune.data.formats.just_eval import FORMAT

SOURCE = Source(file="aspects.jsonl", line=1, format="just_eval")
RECORD: dict[str, Any] = {
    "id": 735,
    "input": "What is a model?",
    "output_cand": "A thing.",
    "generator_cand": "results//gpt-3.5-turbo-0301.json",
    "eval_config": {"mode": "score_multi", "gpt": "gpt-4-1106-preview", "max_words": -1},
    "prompt": "Judge this.",
    "result": "{}",
    "parsed_result": {"helpfulness": {"reason": "It says little.", "score": "2"}, "factuality": {"reason": "Nothing to check.", "score": "N/A"}},
}


def test_a_record_is_an_answer_rated_by_aspect() -> None:
    (group,) = FORMAT.parse(RECORD, SOURCE)
    assert FORMAT.recognises(RECORD)
    assert (group.id, group.responses[0].content, group.responses[0].generator) == ("just-eval-735", "A thing.", "gpt-3.5-turbo-0301")
    judge = "judge:gpt-4-1106-preview"
    assert [(rating.aspect, rating.value, rating.scale, rating.annotator, rating.reason) for rating in group.ratings] == [
        ("helpfulness", 2.0, (1.0, 5.0), judge, "It says little."),
        ("factuality", "abstain", (1.0, 5.0), judge, "Nothing to check."),
    ]
    assert sorted(group.meta) == ["eval_config", "generator_cand", "id", "prompt", "result"]


@pytest.mark.parametrize("score", ["6", "", None, "n/a", True, "5 of 5"])
def test_a_wrong_score_names_its_field(score: object) -> None:
    with pytest.raises(RecordError) as caught:
        list(FORMAT.parse(RECORD | {"parsed_result": {"depth": {"reason": "", "score": score}}}, SOURCE))
    assert caught.value.field == "parsed_result.depth.score"
