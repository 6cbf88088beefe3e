"""DOVE: one context where the instructions are equal, one a side where they differ."""

from attune.core.record import Source, text_of
from attune.data.formats.dove_joint import FORMAT

SOURCE = Source(file="joint.jsonl", line=1, format="dove_joint")
RECORD = {"i_chosen": "Tell a joke.", "r_chosen": "A horse walks in.", "i_reject": "Tell a joke.", "r_reject": "No."}


def test_equal_instructions_are_one_context() -> None:
    (group,) = FORMAT.parse(RECORD, SOURCE)
    assert FORMAT.recognises(RECORD)
    assert {name: prompt.content for name, prompt in group.contexts.items()} == {"main": ({"role": "user", "content": "Tell a joke."},)}
    assert [(response.content, response.context) for response in group.responses] == [("A horse walks in.", "main"), ("No.", "main")]
    assert [verdict.tiers for verdict in group.verdicts] == [((0,), (1,))]


def test_different_instructions_are_a_context_a_side() -> None:
    (group,) = FORMAT.parse(RECORD | {"i_reject": "Tell a lie."}, SOURCE)
    (other,) = FORMAT.parse(RECORD | {"i_reject": "Tell a tale."}, SOURCE)
    assert {name: text_of(prompt.content) for name, prompt in group.contexts.items()} == {"chosen": "Tell a joke.", "rejected": "Tell a lie."}
    assert [(response.content, response.context) for response in group.responses] == [("A horse walks in.", "chosen"), ("No.", "rejected")]
    assert group.id != other.id
