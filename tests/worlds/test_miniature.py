import pytest
import torch

from attune.core.errors import ConfigError
from attune.policies.templates import Template
from attune.worlds import miniature

TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]


@pytest.fixture(scope="module")
def tokenizer():
    return miniature.build_tokenizer(["name three trees", "oak and elm"] * 3, vocabulary=280)


@pytest.mark.parametrize("text", ["oak and elm", "Größe 東京 😀\n\t x", "".join(map(chr, range(32, 127))), "\x00\x7f�", " <|im_end|> "[1:3]])
def test_every_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_special_tokens_are_distinct_and_there_is_one_bos(tokenizer):
    ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert len(set(ids)) == 3
    assert tokenizer("oak")["input_ids"][0] == tokenizer.bos_token_id
    template = Template(tokenizer)
    assert template.stop_ids == (tokenizer.eos_token_id,)
    text = tokenizer.apply_chat_template(TURNS, tokenize=False)
    assert text == "<|begin|><|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n"
    ids = tokenizer.apply_chat_template(TURNS, tokenize=True)["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1


def test_a_seed_makes_the_weights_and_leaves_the_generator_alone(tokenizer):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    first, again, other = (miniature.build_model(tokenizer, size="tiny", seed=seed).lm_head.weight for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (len(tokenizer), 32)


def test_an_unknown_size_is_refused(tokenizer):
    with pytest.raises(ConfigError, match=r"size: no model of this size .* tiny, small, medium"):
        miniature.build_model(tokenizer, size="huge")
