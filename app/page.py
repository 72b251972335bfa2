"""The page: a form on the left, one or two models' recipes on the right, a chat about them below."""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr

from app import card, prompts
from app.backend import Backend
from app.startup import Startup
from app.talk import Talk, answers
from sft.core.errors import UserError

HERE = Path(__file__).parent
NOTHING = ""  # the choice to compare with no other model
CAUTION = (
    "Recipes here are written by a small language model. It is no cook and no dietician, and it has never "
    "tasted anything: it may leave out a step, forget an allergen or ignore the diet you chose. Check "
    "quantities, temperatures and what you must not eat before you cook."
)
EXAMPLES = [
    "chicken, rice, lemon",
    "potatoes, leeks, cream, butter",
    "flour, eggs, milk, sugar, apples",
    "chickpeas, tomatoes, onion, cumin",
    "salmon, dill, potatoes",
]
HAT = '<header class="hat"><h1>Recipe chatbot</h1><p>Ingredients in, a recipe out.</p></header>'
EMPTY = (
    '<div class="empty"><strong>What is in your kitchen?</strong>'
    "Name some ingredients, or click an example: the recipe is written here.</div>"
)
# No font is fetched: the page works without a network.
FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif"]


def look() -> dict[str, Any]:
    """Return what launch() needs for the page's look."""
    theme = gr.themes.Base(
        primary_hue=gr.themes.colors.orange,
        neutral_hue=gr.themes.colors.stone,
        radius_size=gr.themes.sizes.radius_md,
        font=FONT,
        font_mono=["ui-monospace", "DejaVu Sans Mono", "monospace"],
    ).set(
        body_background_fill="#fbf7ef",
        body_background_fill_dark="#1b1714",
        block_background_fill="#fffdf8",
        block_background_fill_dark="#26211d",
        button_primary_background_fill="#a63d24",
        button_primary_background_fill_hover="#8d321d",
        button_primary_background_fill_dark="#b5482d",
        button_primary_background_fill_hover_dark="#c75637",
        button_secondary_background_fill="#efe6d8",
        button_secondary_background_fill_hover="#e6dac7",
        button_secondary_background_fill_dark="#3a322b",
        button_secondary_background_fill_hover_dark="#483e35",
        button_secondary_text_color="#2c2420",
        button_secondary_text_color_dark="#f1e9df",
        input_background_fill="#f6efe3",
        input_background_fill_dark="#302923",
        block_label_text_color="#5d5048",
        block_title_text_color="#2c2420",
        block_title_text_color_dark="#f1e9df",
        block_info_text_color="#75665c",
        block_info_text_color_dark="#b9aa9c",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
    )
    return {"theme": theme, "css_paths": HERE / "page.css", "head_paths": HERE / "head.html"}


@dataclass
class Form:
    """What is asked: the fields on the left, and the button below them."""

    ingredients: gr.Textbox
    diet: gr.Dropdown
    cuisine: gr.Dropdown
    servings: gr.Dropdown
    first: gr.Dropdown
    second: gr.Dropdown
    write: gr.Button


@dataclass
class Answers:
    """What is answered, and what can be done about it: the right side."""

    status: gr.HTML
    panes: tuple[gr.HTML, gr.HTML]
    stop: gr.Button
    again: gr.Button
    question: gr.Textbox


def build(backend: Backend, startup: Startup) -> gr.Blocks:
    """Lay the page out and say what its buttons do."""
    with gr.Blocks(title="Recipe chatbot", analytics_enabled=False) as page:
        talk = gr.State(Talk, time_to_live=6 * 3600)
        gr.HTML(HAT, padding=False)
        with gr.Row():
            with gr.Column(scale=4, min_width=320, elem_id="form"):
                form = _form(backend)
            with gr.Column(scale=7, min_width=320, elem_id="answers"):
                right = _answers()
        gr.HTML(f'<p class="caution">{CAUTION}</p>', padding=False)
        shown = [*right.panes, right.status, form.write, right.stop, right.again, right.question, talk]

        async def follow(talk: Talk, asked: bool = False) -> AsyncIterator[list[Any]]:
            try:
                yield _view(talk, clear=asked)
                async for _ in answers(talk, backend):
                    yield _view(talk)
            finally:  # the window may close before the first answer begins
                talk.run = None
            yield _view(talk)

        async def begin(*values: Any) -> AsyncIterator[list[Any]]:
            ingredients, diet, cuisine, servings, first, second, talk = values
            wish = prompts.Wish(ingredients or "", diet or "", cuisine or "", servings or "")
            try:
                names = [name for name in (first or backend.default, second) if name]
                talk.begin(wish, names, backend.called)
            except UserError as error:
                yield _view(talk, fault=str(error))
                return
            async for drawn in follow(talk):
                yield drawn

        async def go_on(text: str, talk: Talk) -> AsyncIterator[list[Any]]:
            try:
                talk.go_on(text or "")
            except UserError as error:
                yield _view(talk, fault=str(error))
                return
            async for drawn in follow(talk, asked=True):
                yield drawn

        async def once_more(talk: Talk) -> AsyncIterator[list[Any]]:
            try:
                talk.again()
            except UserError as error:
                yield _view(talk, fault=str(error))
                return
            async for drawn in follow(talk):
                yield drawn

        async def loading() -> AsyncIterator[Any]:
            async for line in startup.follow():
                yield gr.update(value=line, visible=bool(line))

        # Users wait in the answerer, which tells them how many are ahead, or that there are too many.
        answering: dict[str, Any] = {
            "show_progress": "hidden",
            "concurrency_id": "answers",
            "concurrency_limit": None,
            "trigger_mode": "once",
        }

        def choices() -> list[Any]:
            """Return the models to choose from as they are now."""
            models = _models(backend)
            return [gr.update(choices=models), gr.update(choices=[("nothing", NOTHING), *models])]

        asked = [form.ingredients, form.diet, form.cuisine, form.servings, form.first, form.second, talk]
        form.write.click(begin, asked, shown, api_name="write", **answering)
        right.question.submit(go_on, [right.question, talk], shown, api_name="ask", **answering)
        right.again.click(once_more, [talk], shown, api_name="again", **answering)
        right.stop.click(Talk.stop, [talk], queue=False, show_progress="hidden", api_name="stop")
        loads: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        page.load(choices, None, [form.first, form.second], **loads)
        page.load(loading, None, right.status, concurrency_limit=None, **loads)
    return page.queue(max_size=1000, api_open=False)


def _form(backend: Backend) -> Form:
    ingredients = gr.Textbox(
        label="Ingredients",
        info="With commas, or one a line. The model learnt from English recipes.",
        placeholder="chicken, rice, lemon",
        lines=3,
        max_lines=8,
        elem_id="ingredients",
    )
    gr.Examples([[example] for example in EXAMPLES], [ingredients], label="Examples", elem_id="examples")
    with gr.Row():
        diet = _dropdown("Diet", [("any", ""), *prompts.DIETS])
        cuisine = _dropdown("Cuisine", [("any", ""), *prompts.CUISINES])
        servings = _dropdown("Servings", [("any", ""), *map(str, (1, 2, 3, 4, 6, 8, 12))])
    models = _models(backend)
    with gr.Row(visible=len(models) > 1):
        first = _dropdown("Model", models, backend.default)
        second = _dropdown("Compare with", [("nothing", NOTHING), *models], NOTHING)
    gr.HTML(f'<p class="hint">{escape(backend.hint)}</p>', padding=False, visible=len(models) > 1)
    write = gr.Button("Write a recipe", variant="primary", size="lg", elem_id="write")
    return Form(ingredients, diet, cuisine, servings, first, second, write)


def _answers() -> Answers:
    status = gr.HTML(card.progress("Loading the model …"), elem_id="status", padding=False)
    with gr.Row(elem_id="panes"):
        panes = (
            gr.HTML(EMPTY, elem_id="pane-1", padding=False),
            gr.HTML(visible=False, elem_id="pane-2", padding=False),
        )
    with gr.Row(elem_id="actions"):
        stop = gr.Button("Stop", interactive=False, size="md", min_width=110, elem_id="stop")
        again = gr.Button("Another version", interactive=False, size="md", min_width=110, elem_id="again")
    question = gr.Textbox(
        label="Ask about this recipe",
        placeholder="Can I make it without butter?",
        max_lines=4,
        interactive=False,
        submit_btn="Ask",
        elem_id="question",
    )
    return Answers(status, panes, stop, again, question)


def _dropdown(label: str, choices: list[Any], value: str = "") -> gr.Dropdown:
    """Return a field to choose from or to type in."""
    return gr.Dropdown(choices, value=value, label=label, allow_custom_value=True, min_width=96)


def _view(talk: Talk, fault: str = "", clear: bool = False) -> list[Any]:
    """Return what the page shows of a conversation; `clear` empties the question, which has been asked."""
    busy = talk.busy
    drawn = [card.render(pane) for pane in talk.panes] or [EMPTY]
    some = any(turn.answer for pane in talk.panes for turn in pane.turns)
    question: dict[str, Any] = {"interactive": not busy and some} | ({"value": ""} if clear else {})
    return [
        drawn[0],
        gr.update(value="".join(drawn[1:]), visible=len(drawn) > 1),
        gr.update(value=card.message(fault) if fault else "", visible=bool(fault)),
        gr.update(interactive=not busy),
        gr.update(interactive=busy),
        gr.update(interactive=not busy and bool(talk.panes)),
        gr.update(**question),
        talk,
    ]


def _models(backend: Backend) -> list[tuple[str, str]]:
    return [(backend.called(name), name) for name in backend.listed()]
