from attune.core.record import MAIN, Group, Prompt, Response
from attune.rewards.callable import CallableReward


def test_each_response_is_scored_under_the_prompt_it_answers():
    contexts = {MAIN: Prompt(content="abc"), "short": Prompt(content="a")}
    group = Group(id="g", contexts=contexts, responses=(Response(content="12"), Response(content="1234", context="short")))
    reward = CallableReward(lambda prompt, response: 10 * len(str(prompt.content)) + len(response.text), scope="prompt")
    assert reward.score([group, Group(id="h")]) == [[32.0, 14.0], []]
    assert reward.scope == "prompt"
