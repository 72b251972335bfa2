"""The layouts that are known and refused, with what to do instead; preference data can be taken by choice."""

from sft.data import layout_finders as finders
from sft.data.layout import Layout

_CHOSEN = "`#chosen` behind the address (`data/raw/my.jsonl#chosen`) takes the chosen answers"
_PREFERENCE = f"It is preference data, and this pipeline trains on answers. {_CHOSEN}"

REFUSED = (
    Layout(
        "DPO preferences",
        "`chosen` and `rejected`, `chosen_response` or `response` and `rejected_response`, `accepted` and "
        "`rejected`",
        (
            {"prompt": "Salt?", "chosen": "A pinch.", "rejected": "A pound."},
            {
                "chosen": [{"role": "user", "content": "Hot?"}, {"role": "assistant", "content": "No."}],
                "rejected": [{"role": "user", "content": "Hot?"}, {"role": "assistant", "content": "Stop."}],
            },
        ),
        {
            "prompt, question, instruction, query, messages": "with `#chosen`: what is asked",
            "input, context, passage": "with `#chosen`: below what is asked, where it is text",
            "chosen, chosen_response, response, accepted": "with `#chosen`: the answer, as text, "
            "a message or messages; a whole conversation, "
            "also as text with `Human:` and `Assistant:` (hh-rlhf), stands for itself",
            "rejected, rejected_response": "dropped",
        },
        finders.dpo,
        f"{_PREFERENCE}.",
    ),
    Layout(
        "ranked answers",
        "as Alpaca or pairs, with a list of texts as the answer",
        (
            {"instruction": "Salt?", "input": "", "output": ["A pinch.", "A pound."]},
            {"instruction": "Hot?", "input": "", "output": ["No.", "Go away."]},
        ),
        {"output": "with `#chosen`: the first is the answer; the others are dropped"},
        finders.ranked,
        f"{_PREFERENCE}, of each list the first.",
    ),
    Layout(
        "KTO labels",
        "`label` or `kto_tag`, true or false (also as 1 and 0, or as words), beside any layout above",
        (
            {"prompt": "Salt?", "completion": "A pinch.", "label": True},
            {"prompt": "Salt?", "completion": "A pound.", "label": False},
        ),
        {"label, kto_tag": "with `#chosen`: rows with true are taken, the others skipped"},
        finders.kto,
        f"{_PREFERENCE}: the rows whose label is true. If the label says something else, rename its column.",
    ),
    Layout(
        "OpenAI preferences",
        "`preferred_output` and `non_preferred_output`",
        (
            {
                "input": {"messages": [{"role": "user", "content": "Salt?"}]},
                "preferred_output": [{"role": "assistant", "content": "A pinch."}],
                "non_preferred_output": [{"role": "assistant", "content": "A pound."}],
            },
            {
                "input": {"messages": [{"role": "user", "content": "Hot?"}]},
                "preferred_output": [{"role": "assistant", "content": "No."}],
                "non_preferred_output": [{"role": "assistant", "content": "Stop."}],
            },
        ),
        {},
        finders.openai_preferences,
        "It is preference data, and this pipeline trains on answers. Write it as DPO preferences (jq -c "
        "'{prompt: .input.messages, tools: .input.tools, chosen: .preferred_output, rejected: "
        ".non_preferred_output}'), of which `#chosen` behind the address takes the chosen answers.",
    ),
    Layout(
        "battles of two answers",
        "`conversation_a` and `conversation_b`, or `response_a` and `response_b`",
        (
            {"prompt": "Salt?", "response_a": "A pinch.", "response_b": "A pound.", "winner": "model_a"},
            {"prompt": "Hot?", "response_a": "Stop.", "response_b": "No.", "winner": "model_b"},
        ),
        {},
        finders.battles,
        "It is preference data, and this pipeline trains on answers. Write of each row the better one as "
        "messages.",
    ),
    Layout(
        "messages as text",
        "`messages`, `conversations` or `conversation` as the text of JSON",
        (
            {"messages": '[{"role": "user", "content": "Salt?"}, {"role": "assistant", "content": "No."}]'},
            {"messages": '[{"role": "user", "content": "Hot?"}, {"role": "assistant", "content": "No."}]'},
        ),
        {},
        finders.written_lists,
        "The column {column} holds text. Write it as lists of messages (jq -c '{path} |= fromjson').",
    ),
    Layout(
        "glaive chats",
        "`system` and `chat`, the turns written out in one text",
        (
            {"system": "SYSTEM: Be brief.", "chat": "USER: Salt?\n\n\nASSISTANT: A pinch. <|endoftext|>"},
            {"system": "SYSTEM: Be brief.", "chat": "USER: Hot?\n\n\nASSISTANT: No. <|endoftext|>"},
        ),
        {},
        finders.glaive,
        "Write the turns of each chat (USER, ASSISTANT, FUNCTION RESPONSE) as messages, and the functions "
        "that its system names as tools.",
    ),
    Layout(
        "SQuAD",
        "`context`, `question` and `answers` that are places in the context; or `paragraphs` of these",
        (
            {
                "context": "Take a pinch of salt.",
                "question": "How much?",
                "answers": {"text": ["a pinch"], "answer_start": [5]},
            },
            {
                "context": "The soup is hot.",
                "question": "What is hot?",
                "answers": {"text": ["The soup"], "answer_start": [0]},
            },
        ),
        {},
        finders.squad,
        "Write one of each question's answers as a text: jq -c '{context, question, answer: "
        ".answers.text[0]}' for rows with answers, and for a file of paragraphs jq -c "
        "'.data[].paragraphs[] | .context as $context | .qas[] | {context: $context, question, answer: "
        ".answers[0].text}'.",
    ),
    Layout(
        "OASST trees",
        "`message_tree_id` and a `prompt` with `replies`",
        (
            {
                "message_tree_id": "1",
                "prompt": {
                    "text": "Salt?",
                    "role": "prompter",
                    "replies": [{"text": "A pinch.", "role": "assistant", "replies": []}],
                },
            },
            {
                "message_tree_id": "2",
                "prompt": {
                    "text": "Hot?",
                    "role": "prompter",
                    "replies": [{"text": "No.", "role": "assistant", "replies": []}],
                },
            },
        ),
        {},
        finders.oasst_trees,
        "A row is a tree of answers. Choose a path through each, such as the replies of rank 0, and write it "
        "as messages.",
    ),
    Layout(
        "OASST messages",
        "`message_id`, `parent_id`, `text` and `role`",
        (
            {"message_id": "1", "parent_id": None, "text": "Salt?", "role": "prompter"},
            {"message_id": "2", "parent_id": "1", "text": "A pinch.", "role": "assistant"},
        ),
        {},
        finders.oasst_messages,
        "A row is one message of a tree. Follow parent_id from the answers of rank 0 up to the root, and "
        "write each path as messages.",
    ),
    Layout(
        "Gemini contents",
        "`contents`: lists of `role` and `parts`",
        (
            {
                "contents": [
                    {"role": "user", "parts": [{"text": "Salt?"}]},
                    {"role": "model", "parts": [{"text": "A pinch."}]},
                ]
            },
            {
                "contents": [
                    {"role": "user", "parts": [{"text": "Hot?"}]},
                    {"role": "model", "parts": [{"text": "No."}]},
                ]
            },
        ),
        {},
        finders.gemini,
        "Write contents as messages, and of each message the texts of its parts as content.",
    ),
    Layout(
        "nested columns",
        "a column of objects that themselves have a layout",
        (
            {"id": 1, "row": {"prompt": "Salt?", "completion": "A pinch."}},
            {"id": 2, "row": {"prompt": "Hot?", "completion": "No."}},
        ),
        {},
        finders.nested,
        "The rows lie within the column {column}. Write what is in it as the rows (jq -c '{path}'), or "
        "name it messages where it holds such.",
    ),
    Layout(
        "pretraining text",
        "`text` or `content`, and nothing that asks",
        ({"text": "Once upon a time there was salt."}, {"text": "A pinch was enough."}),
        {},
        finders.plain_text,
        "It has neither questions nor answers, and this pipeline trains on answers. Where a chat is written "
        "out in the text, write it as messages.",
    ),
)
