"""Data sets like mlabonne/FineTome-100k and arcee-ai/The-Tome: their files and columns, of random words.

FineTome is one Parquet file of conversations with a source and a score, The-Tome one file of JSON Lines, in
which every row of FineTome comes again. Sizes of rows are theirs: 2.4 KB of FineTome (239,650,961 bytes of
columns in 100,000 rows) and 2.6 KB of The-Tome (4,581,983,383 bytes of JSON in 1.75 million).
"""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

FINETOME_FILE = "data/train-00000-of-00001.parquet"
TOME_FILE = "the_tome.jsonl"
ROW_GROUP = 10_000

SYSTEM, USER, ASSISTANT, CALL, RESULT = range(5)
# How a speaker is called; the first name in nine rows of ten, any of them in the tenth.
SPEAKERS = (
    "system system_prompt system_message developer System",
    "human user prompter prompt input question customer Human",
    "gpt assistant chatgpt chat_gpt bing bard claude gemini llama model ai bot chatbot output answer "
    "response completion agent GPT",
    "function_call tool_call tool_calls",
    "observation tool tools function function_response function_result function_output tool_response "
    "tool_result tool_results tool_output observations ipython environment",
)
COMMON = 0.9
# Words of a message on average, log-normal; a system message, a question, an answer, a call, its result.
WORDS = (20, 50, 198, 1, 12)
SPREAD = 0.8
# Conversations of one, two and three questions; those with a system message; those in which a tool is called.
QUESTIONS = (0.8, 0.12, 0.08)
WITH_SYSTEM = 0.15
WITH_TOOL = 0.02
BROKEN = 0.004  # rows that nothing can be made of: data.max_rejects is 0.01
REPEATED = 0.005  # of The-Tome's other rows
SOURCES = ("infini-instruct-top-500k", "WebInstructSub_axolotl", "airoboros-3.2", "SystemChat-2.0")
# A message in the middle of which there is what JSON escapes, as in one of ten.
ESCAPED = 'code:\n\n\tprint("\\d+")\n“quoted” naïve 日本\n'
MESSAGES = pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))
FINETOME = pa.schema([("conversations", MESSAGES), ("source", pa.string()), ("score", pa.float64())])

_Message = dict[str, str | None]


def write(finetome: Path, tome: Path, words: Sequence[str], base: int, others: int, seed: int = 0) -> None:
    """Write FineTome of `base` rows and The-Tome of these and `others` more into the repositories' folders.

    Both are made in groups of rows, each by a seed of its own and by all cores: some 40,000 rows a second
    and core.
    """
    vocabulary = pa.array(words, pa.string())
    groups = -(-base // ROW_GROUP)
    shares = [np.array_split(np.arange(rows), groups) for rows in (base, others)]
    sizes = list(zip(*([len(share) for share in of] for of in shares), strict=True))
    (finetome / FINETOME_FILE).parent.mkdir(parents=True)
    tome.mkdir(parents=True)
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        (tome / TOME_FILE).open("wb") as lines,
        pq.ParquetWriter(finetome / FINETOME_FILE, FINETOME) as file,
    ):
        made = partial(_group, vocabulary, seed)
        for table, text in pool.map(made, range(groups), *zip(*sizes, strict=True)):
            file.write_table(table)
            lines.write(text)


def _group(
    vocabulary: pa.Array, seed: int, number: int, base: int, others: int
) -> tuple[pa.Table, pa.Buffer]:
    """Make a row group of FineTome, and the lines of The-Tome with its rows and others, in random order."""
    random = np.random.default_rng([seed, number])
    table = _rows(random, vocabulary, base)
    new = _rows(random, vocabulary, others)
    repeated = np.arange(others)
    copies = np.flatnonzero(random.random(others) < REPEATED)
    repeated[copies] = random.integers(0, max(1, others), len(copies))
    both = pa.concat_tables([table, new.take(pa.array(repeated))])
    return table, _json_lines(both.take(pa.array(random.permutation(len(both)))))


def _rows(random: np.random.Generator, vocabulary: pa.Array, rows: int) -> pa.Table:
    speakers, offsets = _turns(random, rows)
    names = _names(random, speakers, np.diff(offsets))
    texts = _texts(random, vocabulary, speakers)
    spoken = pa.StructArray.from_arrays([names, texts], fields=list(MESSAGES.value_type))
    conversations = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), spoken)
    broken = np.flatnonzero(random.random(rows) < BROKEN)
    return pa.table(
        {
            "conversations": _with_broken(conversations, broken),
            "source": pa.array(random.choice(SOURCES, rows)),
            "score": np.round(random.uniform(2.0, 5.25, rows), 4),
        },
        FINETOME,
    )


def _turns(random: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return who speaks, message by message, and where the rows begin."""
    questions = 1 + random.choice(len(QUESTIONS), rows, p=QUESTIONS)
    system = random.random(rows) < WITH_SYSTEM
    tool = random.random(rows) < WITH_TOOL
    lengths = 2 * questions + system + 2 * tool
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    row = np.repeat(np.arange(rows), lengths)
    place = np.arange(offsets[-1]) - offsets[row] - system[row]  # -1 is the system message
    answered = place - 2 * (tool[row] & (place >= 3))  # the call and its result are messages 1 and 2
    speakers = np.where(answered % 2 == 0, USER, ASSISTANT)
    speakers[place == -1] = SYSTEM
    speakers[tool[row] & (place == 1)] = CALL
    speakers[tool[row] & (place == 2)] = RESULT
    return speakers, offsets


def _names(random: np.random.Generator, speakers: np.ndarray, lengths: np.ndarray) -> pa.Array:
    """Name the speakers: within a row each by one name."""
    names = [name for of in SPEAKERS for name in of.split()]
    counts = np.array([len(of.split()) for of in SPEAKERS])
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    rows = len(lengths)
    chosen = np.where(random.random(rows) < COMMON, 0.0, random.random(rows))[:, None] * counts
    row = np.repeat(np.arange(rows), lengths)
    codes = first[speakers] + chosen[row, speakers].astype(int)
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(names)).dictionary_decode()


def _texts(random: np.random.Generator, vocabulary: pa.Array, speakers: np.ndarray) -> pa.Array:
    mean = np.array(WORDS)[speakers]
    drawn = random.lognormal(np.log(mean) - SPREAD**2 / 2, SPREAD)
    counts = np.where(speakers == CALL, 1, np.maximum(3, drawn).astype(int))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    said = vocabulary.take(pa.array(random.integers(0, len(vocabulary), offsets[-1], np.int32)))
    texts = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), said), " ")
    plain = (speakers != CALL) & (speakers != RESULT)
    escaped = pa.array(plain & (random.random(len(speakers)) < 0.1))
    texts = pc.if_else(escaped, pc.binary_join_element_wise(texts, ESCAPED, texts, " "), texts)
    calls = pc.binary_join_element_wise('{"name": "look_up", "arguments": {"word": "', texts, '"}}', "")
    results = pc.binary_join_element_wise('{"meaning": "', texts, '"}', "")
    texts = pc.if_else(pa.array(speakers == CALL), calls, texts)
    return pc.if_else(pa.array(speakers == RESULT), results, texts)


def _with_broken(conversations: pa.ListArray, broken: np.ndarray) -> pa.Array:
    """Put what cannot be understood into these rows, one kind of fault after another."""
    asked: _Message = {"from": "human", "value": "a question"}
    said: _Message = {"from": "gpt", "value": "an answer"}
    faults: list[list[_Message] | None] = [
        [asked, {**said, "from": "narrator"}],
        None,
        [],
        [asked],
        [asked, {**said, "value": "  "}],
        [asked, {**said, "value": None}],
        [asked, {**said, "from": None}],
    ]
    mask = np.zeros(len(conversations), bool)
    mask[broken] = True
    put = pa.array([faults[number % len(faults)] for number in range(len(broken))], MESSAGES)
    at = np.arange(len(conversations))
    at[broken] = len(conversations) + np.arange(len(broken))
    return pa.concat_arrays([conversations, put]).take(pa.array(at))


def _json_lines(table: pa.Table) -> pa.Buffer:
    """Write rows as JSON, one a line, by Arrow's own functions: json.dumps takes five times as long."""
    conversations = table["conversations"].combine_chunks()
    if isinstance(conversations, pa.ChunkedArray):
        conversations = conversations.chunk(0)
    messages = conversations.flatten()
    spoken = pc.binary_join_element_wise(
        '{"from": ', _quoted(messages.field("from")), ', "value": ', _quoted(messages.field("value")), "}", ""
    )
    lengths = pc.fill_null(pc.list_value_length(conversations), 0).to_numpy()
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    lists = pc.binary_join(pa.ListArray.from_arrays(offsets, spoken), ", ")
    lists = pc.binary_join_element_wise("[", lists, "]", "")
    lists = pc.if_else(pc.is_null(conversations), "null", lists)
    sources = _quoted(table["source"].combine_chunks())
    lines = pc.binary_join_element_wise('{"conversations": ', lists, ', "source": ', sources, "}\n", "")
    if isinstance(lines, pa.ChunkedArray):
        lines = lines.combine_chunks()
    begin, end = lines.offset, lines.offset + len(lines)
    positions = np.frombuffer(lines.buffers()[1], np.int32)
    return lines.buffers()[2].slice(positions[begin], positions[end] - positions[begin])


def _quoted(texts: pa.Array) -> pa.Array:
    """Return the texts as JSON's strings, null for none."""
    for escaped in '\\"\n\t':
        texts = pc.replace_substring(texts, escaped, json.dumps(escaped)[1:-1])
    return pc.fill_null(pc.binary_join_element_wise('"', texts, '"', ""), "null")
