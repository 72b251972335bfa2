"""Tools, calls and results in the chat templates of Llama 3.1 and Qwen: the same ids as transformers' own."""

import pytest

from sft.core.errors import UserError
from sft.modeling.chat_template import TemplateRefusal, encode, prompt_ids, render
from sft.modeling.template_facts import examine
from tests.chat_templates import (
    ANSWER,
    ASKED,
    CALL,
    RESULT,
    TOOL_CHAT,
    TOOLS,
    learned,
    published,
    tokenizer_of,
)
from tests.tiny import TEMPLATE

DATE = {"date_string": "26 Jul 2024"}
CALLED = {
    "qwen2_5": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Orléans"}}\n</tool_call>'
    "<|im_end|>",
    "llama3_1": '{"name": "get_weather", "parameters": {"city": "Orléans"}}<|eot_id|>',
}
CALLED["qwen3"] = CALLED["qwen2_5"]
MORE = [*TOOL_CHAT, {"role": "user", "content": "Thanks!"}, {"role": "assistant", "content": "Bye."}]


@pytest.fixture
def with_template(tmp_path):
    def made(name):
        special = {"bos_token": "<|begin_of_text|>"} if "llama" in name else {}
        return tokenizer_of(tmp_path, published(name), **special)

    return made


@pytest.mark.parametrize("name", ["qwen2_5", "qwen3", "llama3_1"])
@pytest.mark.parametrize("messages", [TOOL_CHAT[:2], TOOL_CHAT, MORE])
def test_ids_are_those_of_transformers_and_calls_are_learned(with_template, name, messages):
    tokenizer = with_template(name)
    encoded = encode(tokenizer, messages, tools=TOOLS)
    own = tokenizer.apply_chat_template(messages, tools=TOOLS, tokenize=True, return_dict=False, **DATE)
    assert encoded.input_ids == own == encode(tokenizer, messages, False, TOOLS).input_ids
    assert '"description": "The weather of a city: 20°."' in tokenizer.decode(own)
    end = CALLED[name][CALLED[name].index("<|") :] if "llama" in name else "<|im_end|>"
    runs = [run.removeprefix("<think>\n\n</think>\n\n") for run in learned(tokenizer, encoded)]
    assert runs[0] == CALLED[name]
    assert runs[1:] == [
        message["content"] + end for message in messages[2:] if message["role"] == "assistant"
    ]
    for number, message in enumerate(messages):
        if message["role"] == "assistant":
            prompt = prompt_ids(tokenizer, messages[:number], TOOLS)
            assert own[: len(prompt)] == prompt and encoded.assistant_mask[len(prompt)]


def test_the_documented_form_of_a_call_has_no_content(with_template):
    tokenizer = with_template("qwen2_5")
    bare = {key: value for key, value in CALL.items() if key != "content"}
    assert encode(tokenizer, [ASKED, bare], tools=TOOLS) == encode(tokenizer, [ASKED, CALL], tools=TOOLS)
    null = {**CALL, "content": None}
    assert encode(tokenizer, [ASKED, null], tools=TOOLS) == encode(tokenizer, [ASKED, CALL], tools=TOOLS)


@pytest.mark.parametrize("name", ["qwen2_5", "qwen2_5_training"])
@pytest.mark.parametrize(
    "trained", [[None, False, None, None, None, True], [None, None, None, False, None, False]]
)
def test_turns_that_are_not_trained_are_no_part_of_the_mask(with_template, name, trained):
    """Several turns with a result between them; with generation tags and without."""
    tokenizer = with_template(name)
    encoded, whole = (
        encode(tokenizer, MORE, tools=TOOLS, trained=trained),
        encode(tokenizer, MORE, tools=TOOLS),
    )
    assert encoded.input_ids == whole.input_ids
    runs = learned(tokenizer, whole)
    assert len(runs) == 3
    kept = [run for run, number in zip(runs, (1, 3, 5), strict=True) if trained[number] is not False]
    assert learned(tokenizer, encoded) == kept


def test_a_turn_that_is_not_trained_needs_no_proof(with_template):
    """A greeting before the first question has no prompt that a template could be asked for."""
    tokenizer = with_template("qwen2_5")
    greeted = [{"role": "assistant", "content": "Hi!"}, ASKED, ANSWER]
    with pytest.raises(TemplateRefusal, match="nothing before"):
        encode(tokenizer, greeted)
    encoded = encode(tokenizer, greeted, trained=[False, None, None])
    assert learned(tokenizer, encoded) == ["It is 20° there.<|im_end|>"]


def test_a_call_that_ends_with_another_token_is_refused(tmp_path):
    """What follows it, a tool's answer here, must not be taken for the assistant's."""
    other = """{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\n' + message.content }}
{{- (message.tool_calls | tojson) + '<|eot_id|>' if message.tool_calls else '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"""
    tokenizer = tokenizer_of(tmp_path, other)
    assert encode(tokenizer, [ASKED, RESULT, ANSWER])
    for messages in (TOOL_CHAT[:2], TOOL_CHAT):
        with pytest.raises(TemplateRefusal, match="message 2 ends with another token"):
            encode(tokenizer, messages)


@pytest.mark.parametrize(
    ("template", "messages", "tools", "reason"),
    [
        (TEMPLATE, [ASKED, ANSWER], TOOLS, "does not print tools"),
        (TEMPLATE, [ASKED, CALL], None, "does not print tool calls"),
        (published("phi3"), [ASKED, RESULT, ANSWER], None, "does not print what a tool answers"),
        (published("lfm2"), [ASKED, CALL], TOOLS, "does not print tool calls"),
        (published("llama3_1"), [ASKED, {**CALL, "content": "I look."}], TOOLS, "no text beside tool calls"),
        (
            published("llama3_1"),
            [ASKED, {**CALL, "tool_calls": CALL["tool_calls"] * 2}],
            TOOLS,
            "refuses this conversation: This model only supports single tool-calls at once!",
        ),
    ],
)
def test_what_a_template_does_not_print_is_refused(tmp_path, template, messages, tools, reason):
    tokenizer = tokenizer_of(
        tmp_path, template.replace("<|start|>", "<|im_start|>").replace("<|eot|>", "<|im_end|>")
    )
    for mask in (True, False):
        with pytest.raises(TemplateRefusal, match=reason) as told:
            encode(tokenizer, messages, mask, tools)
        assert told.value.reason in str(told.value) and told.value.advice


def test_the_name_of_a_tool_in_the_question_does_not_stand_for_the_tool(tmp_path):
    asked = {"role": "user", "content": "Call get_weather for Orléans."}
    with pytest.raises(TemplateRefusal, match="does not print tools"):
        render(tokenizer_of(tmp_path, TEMPLATE), [asked], tools=TOOLS)


@pytest.mark.parametrize("where", ["tools", "tool_calls", "content"])
def test_control_tokens_in_tools_and_calls_are_refused(with_template, where):
    tokenizer, messages, tools = with_template("qwen2_5"), TOOL_CHAT, TOOLS
    forged = "<|im_end|>"
    if where == "tools":
        tools = [{"type": "function", "function": {**TOOLS[0]["function"], "description": forged}}]
    elif where == "tool_calls":
        function = {"name": "get_weather", "arguments": {"city": forged}}
        messages = [ASKED, {**CALL, "tool_calls": [{"type": "function", "function": function}]}]
    else:
        messages = [ASKED, CALL, {**RESULT, "content": forged}, ANSWER]
    with pytest.raises(TemplateRefusal, match=r"holds <\|im_end\|>") as told:
        encode(tokenizer, messages, tools=tools)
    assert told.value.reason == "a message holds a control token of the chat template"


def test_marks_of_calls_are_text(with_template):
    """Data of Hermes' form has them in the answers."""
    hermes = {"role": "assistant", "content": '<tool_call>\n{"name": "f"}\n</tool_call>'}
    tokenizer = with_template("qwen3")
    (run,) = learned(tokenizer, encode(tokenizer, [ASKED, hermes]))
    assert hermes["content"] in run


def test_a_template_that_breaks_on_a_type_refuses_the_row(with_template):
    """DeepSeek's joins arguments as text: Python's own TypeError comes through Jinja."""
    tokenizer = with_template("deepseekv3_training")
    with pytest.raises(TemplateRefusal, match="refuses this conversation"):
        encode(tokenizer, [ASKED, {**CALL, "tool_calls": [{"function": 3}]}], False)
    assert issubclass(TemplateRefusal, UserError)


def test_a_tokenizer_with_a_template_of_its_own_for_tools(with_template):
    """As those of Hermes and Command R: what one of them prints says nothing of the other."""
    tokenizer = with_template("qwen2_5")
    tools_template = tokenizer.chat_template
    tokenizer.chat_template = {
        "default": TEMPLATE.replace("<|start|>", "<|im_start|>").replace("<|eot|>", "<|im_end|>"),
        "tool_use": tools_template,
    }
    encoded = encode(tokenizer, TOOL_CHAT, tools=TOOLS)
    assert encoded == encode(with_template("qwen2_5"), TOOL_CHAT, tools=TOOLS)
    assert learned(tokenizer, encode(tokenizer, [ASKED, ANSWER])) == ["It is 20° there.<|im_end|>"]
    with pytest.raises(TemplateRefusal, match="does not print tool calls"):
        encode(tokenizer, TOOL_CHAT)


def test_calls_that_are_printed_only_where_there_are_tools(with_template):
    tokenizer = with_template("qwen2_5")
    tokenizer.chat_template = (
        "{%- if tools %}"
        + tokenizer.chat_template
        + "{%- else %}"
        + (TEMPLATE.replace("<|start|>", "<|im_start|>").replace("<|eot|>", "<|im_end|>") + "{%- endif %}")
    )
    assert encode(tokenizer, TOOL_CHAT, tools=TOOLS).assistant_mask
    with pytest.raises(TemplateRefusal, match="does not print tool calls"):
        encode(tokenizer, TOOL_CHAT)


# Mistral's of 2024, cut short: it takes no call without an id of nine characters, and prints them.
MISTRAL = """{%- for message in messages %}
{%- if message["role"] == "user" %}{{- "[INST] " + message["content"] + "[/INST]" }}
{%- elif message.tool_calls is defined and message.tool_calls is not none %}
{{- "[TOOL_CALLS] [" }}
{%- for tool_call in message.tool_calls %}
{%- set out = tool_call.function | tojson %}{{- out[:-1] }}
{%- if not tool_call.id is defined or tool_call.id | length != 9 %}
{{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}{%- endif %}
{{- ', "id": "' + tool_call.id + '"}' }}{%- if not loop.last %}{{- ", " }}{%- endif %}
{%- endfor %}{{- "]</s>" }}
{%- elif message["role"] == "assistant" %}{{- " " + message["content"] | trim + "</s>" }}
{%- elif message["role"] == "tool" %}
{%- if message.tool_call_id | length != 9 %}{{- raise_exception("no id") }}{%- endif %}
{{- "[TOOL_RESULTS] " + message["content"] + " of " + message["tool_call_id"] + "[/TOOL_RESULTS]" }}
{%- endif %}{%- endfor %}"""


@pytest.mark.parametrize(
    "ids", [(None, None), ("call_abcdefgh1", "call_abcdefgh2"), ("call12345", "call12346")]
)
def test_ids_of_calls_that_a_template_takes(tmp_path, ids):
    """Ids of another length, or none, become such ones, by their order; others stay."""
    control = ["[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "</s>"]
    tokenizer = tokenizer_of(tmp_path, MISTRAL, control, eos_token="</s>")
    call = {"type": "function", "function": CALL["tool_calls"][0]["function"]}
    calls = [call if old is None else {**call, "id": old} for old in ids]
    results = [
        {"role": "tool", "content": f"result {n}", **({} if old is None else {"tool_call_id": old})}
        for n, old in enumerate(ids)
    ]
    messages = [ASKED, {"role": "assistant", "content": "", "tool_calls": calls}, *results, ANSWER]
    text = render(tokenizer, messages)
    new = ids if ids[0] == "call12345" else ("call00001", "call00002")
    for n, one in enumerate(new):
        assert f'"id": "{one}"' in text and f"result {n} of {one}[" in text
    assert len(learned(tokenizer, encode(tokenizer, messages))) == 2
    assert "id" not in calls[0] or calls[0]["id"] == ids[0]  # what was given stays as it was


def test_ids_are_not_made_up_for_other_templates(with_template):
    assert (
        not examine(with_template("qwen2_5")).needs_ids and not examine(with_template("llama3_1")).needs_ids
    )
