"""The page itself: Gradio's components, and what happens when somebody uses them.

What is shown is made in `medsql.page.shown` and `medsql.page.browsing`; here it is put in its place. Nobody's
history is kept but in a state of the visitor's own session.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from medsql.errors import UserError
from medsql.page import browsing, shown
from medsql.page.asking import NO_RUN, Asking, Models, Turn
from medsql.page.questions import samples

MOST_TURNS = 30
"""Questions that a visitor's history keeps."""

MOST_BEAMS = 8

OWN = "a question of my own"

CSS = Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def theme() -> gr.themes.Base:
    """Fonts that the machine has: none is fetched."""
    return gr.themes.Base(
        primary_hue="blue",
        font=["system-ui", "-apple-system", "Segoe UI", "Liberation Sans", "Arial", "sans-serif"],
        font_mono=["ui-monospace", "Menlo", "DejaVu Sans Mono", "monospace"],
    )


def make_page(models: Models, decoding: str) -> gr.Blocks:
    """The page over these models; `decoding` is the choice that it opens with."""
    with gr.Blocks(title="medsql", analytics_enabled=False, fill_width=True) as page:
        gr.Markdown("# medsql\nClinical questions → SQL, the model as it is beside a fine-tuned one.")
        with gr.Tabs():
            with gr.Tab("Ask"):
                _ask_tab(page, models, decoding)
            with gr.Tab("Errors") as errors:
                _errors_tab(errors)
            with gr.Tab("Leaderboard") as standings:
                _leaderboard_tab(standings)
    return page


# --- ask --------------------------------------------------------------------------------------------


def _ask_tab(page: gr.Blocks, models: Models, decoding: str) -> None:
    turns = gr.State([], time_to_live=24 * 3600)
    names = [(OWN, -1), *((f"{each.kind}: {each.question}", i) for i, each in enumerate(samples()))]
    sample = gr.Dropdown(names, value=-1, label="Sample questions", filterable=False)
    question = gr.Textbox(
        label="Question", lines=1, max_lines=4, placeholder="how many patients …?", autofocus=True
    )
    reference = gr.Textbox(label="Reference SQL, to score against (may stay empty)", lines=1, max_lines=6)
    with gr.Row():
        runs = models.runs()  # for who asks before the page has asked for them itself
        run = gr.Dropdown(runs, value=runs[0][1], label="Fine-tuned run", min_width=260, filterable=False)
        decode = gr.Radio(list(models.decodings), value=decoding, label="Decoding", min_width=320)
        beams = gr.Slider(
            1, MOST_BEAMS, models.settings.decode.num_beams, step=1, label="Beams", min_width=200
        )
    ask = gr.Button("Ask", variant="primary")
    no_run = gr.HTML(visible=False)
    said = gr.HTML(visible=False)
    answers = gr.HTML()
    with gr.Column(visible=False) as refining:
        corrected = gr.Textbox(
            label="Not what was meant? Correct the question, which stands for itself, and ask again",
            lines=1,
            max_lines=4,
        )
        again = gr.Button("Ask the corrected question")
        history = gr.HTML()
        forget = gr.Button("Forget the history", size="sm")

    def opened() -> list[Any]:
        runs = models.runs()
        none = runs[0][1] == NO_RUN and models.settings.adapter is None
        return [
            gr.update(choices=runs, value=runs[0][1]),
            gr.update(value=shown.message(shown.NO_RUN_YET), visible=none),
        ]

    def asked(turns: list[Turn], *typed: Any, corrects: int | None = None) -> list[Any]:
        number = turns[-1].number + 1 if turns else 1
        try:
            turn = models.ask(Asking(*typed), number, corrects)
        except UserError as error:
            return [turns, gr.update(value=shown.message(str(error)), visible=True), *[gr.skip()] * 4]
        turns = [*turns, turn][-MOST_TURNS:]
        return [
            turns,
            gr.update(value="", visible=False),
            shown.answers(turn),
            gr.update(visible=True),
            turn.question,
            shown.history(turns),
        ]

    def asked_again(turns: list[Turn], *typed: Any) -> list[Any]:
        return asked(turns, *typed, corrects=turns[-1].number if turns else None)

    def sampled(chosen: int) -> list[Any]:
        return [samples()[chosen].question, samples()[chosen].sql] if chosen >= 0 else ["", ""]

    chosen = [reference, run, decode, beams]
    changed = [turns, said, answers, refining, corrected, history]
    page.load(opened, None, [run, no_run], api_visibility="private")
    _on([sample.input], sampled, [sample], [question, reference])
    _on([decode.input], lambda name: models.decodings[name].num_beams, [decode], [beams])
    _on([ask.click, question.submit], asked, [turns, question, *chosen], changed, queue="asking")
    _on([again.click, corrected.submit], asked_again, [turns, corrected, *chosen], changed, queue="asking")
    _on(
        [forget.click],
        lambda: [[], gr.update(visible=False), "", gr.update(visible=False), "", ""],
        [],
        changed,
    )


# --- errors -----------------------------------------------------------------------------------------


def _errors_tab(tab: gr.Tab) -> None:
    with gr.Row():
        folder = gr.Dropdown(label="Run or evaluation", scale=3, min_width=280, filterable=False)
        pattern = gr.Dropdown(label="Error pattern", scale=2, min_width=220, filterable=False)
        number = gr.Number(1, label="Page", minimum=1, precision=0, min_width=80)
    show_test = gr.Checkbox(
        False, label="Show rows of a test split too: once read, they are no longer held out"
    )
    rows = gr.HTML()

    def opened(current: str | None) -> list[Any]:
        found = browsing.scored()
        if not found:
            return [
                gr.update(choices=[], value=None),
                *[gr.skip()] * 2,
                shown.message(browsing.NOTHING_SCORED),
            ]
        folders = [name for _, name in found]
        value = current if current in folders else folders[0]
        return [gr.update(choices=found, value=value), *chosen(value)]

    def chosen(folder: str, show: bool = False) -> list[Any]:
        try:
            patterns = browsing.patterns(folder)
        except UserError as error:
            return [gr.update(choices=[], value=None), 1, shown.message(str(error))]
        return [gr.update(choices=patterns, value=browsing.ANY), *narrowed(folder, browsing.ANY, show)]

    def narrowed(folder: str, pattern: str, show: bool) -> list[Any]:
        return [
            gr.update(value=1, label=f"Page, of {_or_one(browsing.pages, folder, pattern)}"),
            paged(folder, pattern, 1, show),
        ]

    def paged(folder: str, pattern: str, number: float | None, show: bool) -> str:
        return _said(browsing.page, folder, pattern, int(number or 1), show)

    shown_now = [folder, pattern, number, show_test]
    _on([tab.select], opened, [folder], [folder, pattern, number, rows])
    _on([folder.input], chosen, [folder, show_test], [pattern, number, rows])
    _on([pattern.input], narrowed, [folder, pattern, show_test], [number, rows])
    _on([number.input, number.submit, show_test.input], paged, shown_now, [rows])


# --- leaderboard ------------------------------------------------------------------------------------


def _leaderboard_tab(tab: gr.Tab) -> None:
    sweep = gr.Dropdown(label="Sweep", filterable=False)
    standings = gr.HTML()

    def opened(current: str | None) -> list[Any]:
        found = browsing.sweeps()
        if not found:
            return [gr.update(choices=[], value=None), shown.message(browsing.NO_SWEEP)]
        value = current if current in found else found[0]
        return [gr.update(choices=found, value=value), _said(browsing.standings, value)]

    _on([tab.select], opened, [sweep], [sweep, standings])
    _on([sweep.input], lambda name: _said(browsing.standings, name), [sweep], [standings])


# --- events -----------------------------------------------------------------------------------------


def _said(show: Callable[..., str], *arguments: Any) -> str:
    """What it shows, or why it cannot."""
    try:
        return show(*arguments)
    except UserError as error:
        return shown.message(str(error))


def _or_one(count: Callable[..., int], *arguments: Any) -> int:
    try:
        return count(*arguments)
    except UserError:  # which is said where the rows would be
        return 1


def _on(
    events: list[Any], do: Callable[..., Any], inputs: list[Any], outputs: list[Any], queue: str = ""
) -> None:
    """What events do. Those of a `queue` wait for one another, whoever caused them."""
    for event in events:
        event(
            do,
            inputs,
            outputs,
            api_visibility="private",
            concurrency_limit=1 if queue else 20,
            concurrency_id=queue or None,
            show_progress="full" if queue else "hidden",
        )
