from attune.core.protocols import SamplingParams
from attune.core.record import MAIN, Group, Prompt
from attune.samplers.scripted import ScriptedSampler


def test_the_script_is_followed_and_is_no_policy():
    sampler = ScriptedSampler(lambda group, index: f"{group.prompt.content}-{index}", name="me")
    groups = sampler.sample([Group(id=x, contexts={MAIN: Prompt(content=x)}) for x in "ab"], k=2, params=SamplingParams(), seed=0)
    assert [[response.content for response in group.responses] for group in groups] == [["a-0", "a-1"], ["b-0", "b-1"]]
    assert {response.generator for group in groups for response in group.responses} == {"me"}
    assert not sampler.exact(SamplingParams())
