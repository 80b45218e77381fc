"""Texts as token ids: where a response begins and ends, and control tokens in data."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer, processors
from tokenizers import models as tokenizer_models
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from aft.encoding import TextEncoder, set_ends
from aft.errors import ConfigError
from aft.model import generation_ends
from tiny_models import tiny_model, word_tokenizer
from tokenizer_kinds import KINDS, gemma, gpt2, llama, qwen, unmarked

TEMPLATE = "Question: {question}\nAnswer:\n"
NO_COUNTS = {"with_control_tokens": 0, "undivided": 0, "ended_already": 0, "ran_past_end": 0}


def encoder(tokenizer, template=TEMPLATE, **options) -> TextEncoder:
    return TextEncoder(tokenizer, template, **options)


def tokens(tokenizer, ids) -> list[str]:
    return tokenizer.convert_ids_to_tokens(ids)


# ---- where a response begins ----


def test_a_response_is_divided_as_behind_its_prompt_and_not_as_a_text_that_stands_alone():
    tokenizer = llama()
    assert tokens(tokenizer, tokenizer("The answer", add_special_tokens=False)["input_ids"])[0] == "▁The"
    found = encoder(tokenizer).response("How many?", "The answer is 42.")
    assert tokens(tokenizer, found)[:3] == ["T", "he", "▁answer"] and found[-1] == tokenizer.eos_token_id
    joint = tokenizer("Question: How many?\nAnswer:\nThe answer is 42.")["input_ids"]
    assert [*encoder(tokenizer).prompt("How many?"), *found[:-1]] == joint


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "text", ["The answer is 42.", " 7", "\n\n 7", "½ 家 🙂", "é", "- 5\t", "  two  spaces \n", "x" * 99]
)
def test_prompt_and_response_give_the_joint_text_back(kind, text):
    tokenizer = KINDS[kind]()
    texts = encoder(tokenizer)
    ids = texts.prompt("How many?") + texts.response("How many?", text, ended=False)
    assert tokenizer.decode(ids, skip_special_tokens=True) == f"Question: How many?\nAnswer:\n{text}"


@pytest.mark.parametrize("kind", ["gpt2", "qwen"])
def test_byte_level_tokenizers_divide_most_responses_as_before(kind):
    tokenizer = KINDS[kind]()
    texts = encoder(tokenizer)
    for text in ("The answer is 42.", " Tom has 7", "[ANS] 10", "\nShe sells 5"):
        alone = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert texts.response("How many?", text, ended=False) == alone
    assert texts.counts() == NO_COUNTS and texts.summary() is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_that_ends_inside_a_token_is_counted_and_its_response_has_no_space_more(kind):
    tokenizer = KINDS[kind]()
    texts = encoder(tokenizer, "{question} Answer: ")
    ids = texts.response("How many?", "The answer", ended=False)
    assert texts.counts() == {**NO_COUNTS, "undivided": 1}
    assert texts.summary().startswith("1 responses are encoded apart from their prompt")
    assert tokens(tokenizer, ids)[0] in ("T", "The")
    assert tokenizer.decode(texts.prompt("How many?") + ids, skip_special_tokens=True) == "How many? Answer: The answer"


def test_a_prompt_that_is_divided_otherwise_may_still_end_at_a_boundary():
    """GPT-2's pattern takes two line breaks as one token at the end of a text, and apart before a word."""
    tokenizer = gpt2()
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend["model"]["vocab"]["ĊĊ"] = 400
    backend["model"]["merges"].append(["Ċ", "Ċ"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(backend)), eos_token="e")
    texts = encoder(tokenizer, "{question}\n\n")
    assert tokens(tokenizer, texts.prompt("How"))[-1] == "ĊĊ"
    assert tokens(tokenizer, tokenizer("How\n\n7")["input_ids"])[-3:] == ["Ċ", "Ċ", "7"]
    assert tokens(tokenizer, texts.response("How", "7", ended=False)) == ["7"]
    assert texts.counts() == NO_COUNTS


def test_words_without_a_space_between_are_not_joined():
    tokenizer = word_tokenizer()
    texts = encoder(tokenizer, "0 {question} 1")
    assert tokenizer.decode(texts.prompt("a b")) == "0 a b 1"
    assert texts.response("a b", "c") == [5, tokenizer.eos_token_id]
    assert texts.response("a b", "c", ended=False) == [5]
    assert texts.response("a", "", ended=False) == []
    assert texts.counts() == NO_COUNTS


def test_an_unknown_token_across_the_prompts_end_is_not_the_prompts_alone():
    model = tokenizer_models.BPE({"<unk>": 0, "a": 1, "b": 2, "</s>": 3}, [], unk_token="<unk>", fuse_unk=True)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), eos_token="</s>")
    assert tokenizer("a??b")["input_ids"] == tokenizer("a?b")["input_ids"] == [1, 0, 2]
    texts = encoder(tokenizer, "{question}?")
    assert texts.response("a", "?b", ended=False) == [0, 2]
    assert texts.counts() == {**NO_COUNTS, "undivided": 1}


def test_special_tokens_at_the_ends_of_a_text_stay_out_of_responses_and_off_the_end_of_prompts():
    tokenizer = Tokenizer(tokenizer_models.WordLevel({"<s>": 0, "</s>": 1, "a": 2, "<unk>": 3}, unk_token="<unk>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    assert wrapped("a")["input_ids"] == [0, 2, 1]
    assert encoder(wrapped, "{question}").prompt("a") == [0, 2]
    assert encoder(wrapped, "{question}").response("a", "a") == [2, 1]


# ---- chats ----


@pytest.mark.parametrize(
    ("tokenizer", "system"),
    [(llama(), None), (llama(), "Be brief."), (qwen(), None), (qwen(), "Be brief."), (gemma(), None)],
)
def test_a_chat_prompt_has_the_ids_of_the_chat_template(tokenizer, system):
    texts = encoder(tokenizer, "Solve: {question}", chat=True, system=system)
    turns = [{"role": "system", "content": system}] * bool(system) + [{"role": "user", "content": "Solve: How?"}]
    expected = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=True, return_dict=False)
    assert texts.prompt("How?") == expected
    joint = tokenizer.decode([*texts.prompt("How?"), *texts.response("How?", "The answer is 42.", ended=False)])
    assert joint == tokenizer.decode(expected) + texts.lead + "The answer is 42."


@pytest.mark.parametrize("kind", ["llama", "qwen", "gemma"])
def test_an_answer_has_the_ids_of_the_chat_template(kind):
    """Llama 2's template puts a space before an answer, which its tokenizer joins with the word."""
    tokenizer = KINDS[kind]()
    turns = [{"role": "user", "content": "How many?"}, {"role": "assistant", "content": "The answer is 7."}]
    expected = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False)
    texts = encoder(tokenizer, "{question}", chat=True)
    ids = [*texts.prompt("How many?"), *texts.response("How many?", "The answer is 7.", ended=False)]
    assert ids == expected[: len(ids)]
    assert texts.lead == (" " if kind == "llama" else "")
    # no space more where the text has it, or where the ids were sampled
    assert (
        texts.response("How many?", texts.lead + "The answer is 7.", ended=False)
        == ids[len(texts.prompt("How many?")) :]
    )
    sampled = tokenizer("The answer", add_special_tokens=False)["input_ids"]
    assert texts.sampled(sampled) == sampled
    assert texts.response("How many?", "") == [texts.end]


@pytest.mark.parametrize(
    ("prompt", "answer", "lead"),
    [
        ("A:", " {{ m['content'] }}", " "),
        ("A:", "\n\n{{ m['content'] | trim }}", "\n\n"),
        ("A:", " {{ m['content'] | upper }}", " "),
        ("A:", "{{ m['content'] }}", ""),
        ("A:", "<think>\n\n</think>\n\n{{ m['content'] }}", ""),  # text between
        ("A:<think>\n", "{{ m['content'] }}", ""),  # the prompt goes further than a turn with an answer
        ("A: ", "{{ m['content'] }}", ""),
        ("A:", "{{ raise_exception('no answers') }}", ""),
        ("A:", "", ""),
    ],
)
def test_the_white_space_that_a_template_puts_before_an_answer(prompt, answer, lead):
    tokenizer = qwen()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}\n{% else %}A:"
        + answer
        + "{{ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}"
        + prompt
        + "{% endif %}"
    )
    texts = encoder(tokenizer, "{question}", chat=True)
    assert texts.lead == lead
    assert tokenizer.decode(texts.response("How?", "7", ended=False)) == lead + "7"


def test_a_template_that_leaves_out_the_question_is_named():
    tokenizer = word_tokenizer()
    tokenizer.chat_template = "{{ messages[0].content[0].text }} a"
    with pytest.raises(ConfigError, match=r"^prompt\.chat: .*leaves the question out of the prompt$"):
        encoder(tokenizer, chat=True)


def test_a_chat_template_gets_its_variables_and_the_day_of_the_run():
    tokenizer = word_tokenizer()
    tokenizer.chat_template = (
        "{{ messages[0].content }} {{ (strftime_now('%d') | int) % 2 }}{% if think is false %} z {{ a + 1 }}{% endif %}"
    )

    def text(date, **variables):
        return tokenizer.decode(encoder(tokenizer, "{question}", chat=True, date=date, variables=variables).prompt("a"))

    assert text("2026-02-03") == "a 1"
    assert text("2026-02-04") == "a 0"
    assert text("2026-02-04", think=False, a=0) == "a 0 z 1"
    with pytest.raises(ConfigError, match=r"^prompt\.chat: the tokenizer's chat template fails: can only concatenate"):
        text("2026-02-04", think=False, a="1")


def test_a_template_that_refuses_a_system_turn_is_named():
    with pytest.raises(ConfigError, match=r"^prompt\.system: .*no system turn: System role not supported; write the"):
        encoder(gemma(), chat=True, system="Be brief.").prompt("How?")


def test_a_chat_prompt_without_a_working_chat_template_says_so():
    tokenizer = word_tokenizer()
    with pytest.raises(ConfigError, match=r"^prompt\.chat: .*chat_template is not set"):
        encoder(tokenizer, chat=True).prompt("0 1")
    tokenizer.chat_template = "{{ raise_exception('nothing works') }}"
    with pytest.raises(ConfigError, match=r"^prompt\.chat: .*nothing works"):
        encoder(tokenizer, chat=True, system="z").prompt("0 1")


# ---- how a response ends ----


@pytest.mark.parametrize(
    ("tokenizer", "chat", "ends"),
    [
        (llama(), False, ["</s>"]),
        (llama(), True, ["</s>"]),
        (gpt2(), False, ["<|endoftext|>"]),
        (qwen(), True, ["<|im_end|>"]),
        (qwen("<|endoftext|>"), False, ["<|endoftext|>"]),
        (qwen("<|endoftext|>"), True, ["<|im_end|>", "<|endoftext|>"]),
        (gemma(), False, ["<eos>"]),
        (gemma(), True, ["<end_of_turn>", "<eos>"]),
    ],
)
def test_a_response_ends_as_the_chat_template_closes_a_turn(tokenizer, chat, ends):
    texts = encoder(tokenizer, chat=chat)
    assert tokens(tokenizer, texts.ends) == ends
    assert texts.response("How?", "7")[-1] == texts.end == texts.ends[0]


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: ",
        "{% for m in messages %}{{ m['content'] }} (over) <|im_end|>{% endfor %}",
        "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}<|im_end|>{% endfor %}",
    ],
)
def test_a_template_that_closes_no_turn_leaves_the_tokenizers_end(template):
    tokenizer = qwen("<|endoftext|>")
    tokenizer.chat_template = template
    assert tokens(tokenizer, encoder(tokenizer, chat=True).ends) == ["<|endoftext|>"]


def test_the_ends_of_the_model_are_added(tmp_path):
    tokenizer, model = qwen(), tiny_model()
    for ends, expected in (([5, 345], [5, 345]), (7, [7]), (None, [])):
        model.generation_config.eos_token_id = ends
        model.save_pretrained(tmp_path)
        assert generation_ends(str(tmp_path)) == expected
    assert encoder(tokenizer, chat=True, model_ends=[5, 345]).ends == (tokenizer.eos_token_id, 5, 345)
    (tmp_path / "generation_config.json").unlink()
    assert generation_ends(str(tmp_path)) == [1]  # of its config
    with pytest.raises(ConfigError, match=r"no ends could be read from .*nothing"):
        generation_ends(str(tmp_path / "nothing"))


def test_the_ends_are_saved_with_the_model():
    tokenizer, model = gemma(), tiny_model()
    set_ends(model, encoder(tokenizer, chat=True, model_ends=[8]))
    end, eos = tokenizer.convert_tokens_to_ids(["<end_of_turn>", "<eos>"])
    assert model.generation_config.eos_token_id == [end, 8, eos]
    assert model.config.eos_token_id == end
    assert model.generation_config.pad_token_id == model.config.pad_token_id == tokenizer.pad_token_id
    # without a padding token the end pads, and its embedding is still trained
    tokenizer, model = gpt2(), tiny_model()
    model.config.pad_token_id = None
    set_ends(model, encoder(tokenizer))
    assert model.generation_config.eos_token_id == model.generation_config.pad_token_id == tokenizer.eos_token_id
    assert model.config.pad_token_id is None


@pytest.mark.parametrize("is_sampled", [False, True])
@pytest.mark.parametrize("ending", ["<|im_end|>", "<|im_end|>\n", "<|im_end|> <|im_end|>", "<|endoftext|>"])
def test_a_text_that_ends_in_its_end_has_one_end(ending, is_sampled):
    texts = encoder(qwen("<|endoftext|>"), chat=True)
    found = texts.response("How?", "The answer is 42." + ending, is_sampled=is_sampled)
    assert found == encoder(qwen(), chat=True).response("How?", "The answer is 42.")
    assert texts.counts() == {**NO_COUNTS, "ended_already": 1}
    # a cut text that holds its end was not cut
    assert texts.response("How?", "The answer is 42." + ending, ended=False)[-1] == texts.end


def test_what_a_model_wrote_past_its_end_is_cut():
    tokenizer = qwen()
    texts = encoder(tokenizer, chat=True)
    expected = texts.response("How?", "[ANS] 29")
    text = "[ANS] 29<|im_end|>\n<|im_start|>user\nHow many? 35"
    assert texts.response("How?", text, ended=False, is_sampled=True) == expected
    assert texts.sampled(tuple(tokenizer(text)["input_ids"])) == expected
    assert texts.counts() == {**NO_COUNTS, "ran_past_end": 2}
    assert texts.sampled(tuple(expected)) == expected and texts.sampled(tuple(expected[:-1])) == expected[:-1]
    assert texts.sampled(()) == []
    assert texts.counts()["ran_past_end"] == 2


# ---- control tokens in data ----


@pytest.mark.parametrize(
    ("tokenizer", "chat"),
    [(KINDS[kind](), chat) for kind in KINDS for chat in (False, True) if not (kind == "gpt2" and chat)],
)
def test_a_question_with_control_tokens_opens_and_closes_no_turn(tokenizer, chat):
    special = [token.content for token in tokenizer.added_tokens_decoder.values()]
    question = "How many" + "".join(f"{text} or{text}" for text in special) + "?"
    texts, plain = encoder(tokenizer, chat=chat), encoder(tokenizer, chat=chat)
    ids = texts.prompt(question)

    def controls(ids):
        return [token for token in ids if token in tokenizer.all_special_ids or token in tokenizer.added_tokens_decoder]

    assert controls(ids) == controls(plain.prompt("How many?"))
    begin = plain.prompt("How many?")
    shared = next(n for n, (one, other) in enumerate(zip(ids, begin, strict=False)) if one != other)
    assert shared > 0 and ids[-2:] == begin[-2:]
    assert question in tokenizer.decode(ids)
    response = texts.response(question, f"a {special[-1]} b")
    assert controls(response) == [texts.end]
    assert tokenizer.decode(response[:-1]).strip() == f"a {special[-1]} b"
    assert texts.counts() == {**NO_COUNTS, "with_control_tokens": 2}
    assert texts.summary().startswith("2 texts hold control tokens, which are read as text")


def test_control_tokens_that_are_not_marked_as_special_are_text_too():
    tokenizer = unmarked()
    assert not any(token.special for token in tokenizer.added_tokens_decoder.values() if "start" in token.content)
    texts = encoder(tokenizer, chat=True)
    ids = texts.prompt("a <|im_end|> b <|endoftext|> c")
    assert ids.count(tokenizer.eos_token_id) == 1 and ids.count(tokenizer.pad_token_id) == 0
    assert texts.response("a", "x <|im_end|> y").count(texts.end) == 1
    assert texts.counts() == {**NO_COUNTS, "with_control_tokens": 2}


def test_a_tokenizer_without_a_copy_refuses_control_tokens_in_data():
    tokenizer = ByT5Tokenizer()
    texts = encoder(tokenizer, "{question}")
    assert texts.response("a", "x </s>") == [123, 35, 1]
    for text in ("what is <pad>?", "x </s> y"):
        with pytest.raises(ConfigError, match=r"^prompt\.allow_special_tokens: the data hold control tokens"):
            texts.prompt(text)
        with pytest.raises(ConfigError, match=r"^prompt\.allow_special_tokens: the data hold control tokens"):
            texts.response("a", text)
    assert texts.counts()["with_control_tokens"] == 2


@pytest.mark.parametrize("change", ["upper", "title", "capitalize"])
def test_a_template_that_changes_case_leaves_control_tokens_in_a_question_as_they_are(change):
    tokenizer = qwen()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content | " + change + " }}\n{% endfor %}A:"
    ids = encoder(tokenizer, "{question}", chat=True).prompt("many <|im_end|> b")
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.decode(ids).lower() == "many <|im_end|> b\na:"


@pytest.mark.parametrize("change", ["replace(':', '-')", "truncate(60, true, '', 0)", "tojson(ensure_ascii=true)"])
def test_a_template_that_changes_control_tokens_in_a_question_is_named(change):
    tokenizer = qwen()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content | " + change + " }}\n{% endfor %}A:"
    texts = encoder(tokenizer, "{question}", chat=True)
    assert tokenizer.decode(texts.prompt("How many?")).strip('"').startswith("How many?")
    with pytest.raises(ConfigError, match=r"^prompt\.chat: .*changes or leaves out control tokens in a question"):
        texts.prompt("How many <|im_end|> and <|im_start|>?")


def test_control_tokens_are_read_as_such_if_asked():
    tokenizer = qwen()
    texts = encoder(tokenizer, chat=True, allow_special_tokens=True)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert texts.prompt("a<|im_end|>b").count(end) == 2
    assert texts.response("a", "c<|im_end|>d").count(end) == 2
    assert texts.counts() == NO_COUNTS


def test_words_of_a_closed_vocabulary_are_no_control_tokens():
    tokenizer = word_tokenizer()
    texts = encoder(tokenizer, "{question} ?")
    assert texts.prompt("a <eos> b") == [3, tokenizer.unk_token_id, 4, 31]
    assert texts.response("a", "b <pad> c") == [4, tokenizer.unk_token_id, 5, tokenizer.eos_token_id]


def test_the_templates_own_control_tokens_are_control_tokens():
    tokenizer = qwen()
    texts = encoder(tokenizer, "<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n")
    for question in ("How many?", "How <|im_end|>?"):
        starts = texts.prompt(question).count(tokenizer.convert_tokens_to_ids("<|im_start|>"))
        assert (starts, texts.prompt(question).count(tokenizer.eos_token_id)) == (2, 1)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ 2.0 ** 10000 }}", "Numerical result out of range"),
        ("{{ ''.__class__.__mro__ }}", "access to attribute '__class__' of 'str' object is unsafe"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "maximum recursion depth exceeded"),
        ("{% for i in range(10**9) %}x{% endfor %}", "Range too big"),
    ],
)
def test_a_chat_template_that_raises_anything_is_one_error(expression, reason):
    tokenizer = word_tokenizer()
    tokenizer.chat_template = "{{ messages[0].content }} " + expression
    with pytest.raises(ConfigError) as error:
        encoder(tokenizer, "{question}", chat=True).prompt("a")
    said = str(error.value)
    assert said.startswith("prompt.chat: the tokenizer's chat template fails: ") and reason in said and "\n" not in said


def test_a_prompt_without_a_token_is_named():
    tokenizer = word_tokenizer()
    with pytest.raises(ConfigError, match=r"^prompt\.template: the prompt of ' ' is empty, it has no token"):
        encoder(tokenizer, "{question}").prompt(" ")
    tokenizer.chat_template = "{% if messages[0].content != 'b' %}{{ messages[0].content }}{% endif %}"
    texts = encoder(tokenizer, "{question}", chat=True)
    assert texts.prompt("a") == [3]
    with pytest.raises(ConfigError, match=r"chat template: the prompt of 'b' is empty, it has no token"):
        texts.prompt("b")


def test_half_of_a_surrogate_pair_in_a_prompt_is_named():
    with pytest.raises(ConfigError, match=r"^prompt\.template: the prompt of 'a \\ud800' holds half of a surrogate"):
        encoder(word_tokenizer(), "{question}").prompt("a \ud800")
