"""The page as its visitors see it, in a headless Chromium, where there are one and Gradio; and its door."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from end_to_end_tools import run_command, wait_for

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDE, PHONE = (1280, 900), (390, 800)
PATIENCE = 240_000
"""Milliseconds; only a machine that is busy with something else needs them."""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run=nowhere"], "run=nowhere: nowhere is not the folder of a training run"),
        (["port=0"], "port=0: must be from 1 to 65535"),
        (["host=''"], "host is empty"),
        (["prot=7860"], "there is no setting prot; did you mean port?"),
        (["output=json"], "there is no setting output"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(command, tmp_path, arguments, says):
    result = command("demo", *arguments)
    assert result.returncode == 1 and says in result.stderr and "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


def test_without_gradio_the_door_says_how_to_install_it(tmp_path):
    code = "import sys; sys.modules['gradio'] = None; sys.argv[1:] = []; from medsql.demo import main; main()"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1 and "make demo installs it" in result.stderr


def test_no_other_door_imports_gradio():
    doors = "train, evaluate, compare, predict, pretrain"
    code = f"import sys; from medsql import {doors}; print('gradio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    pytest.importorskip("gradio", reason="Gradio is not installed: make demo")
    api = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed: pip install playwright"
    )
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: apt install chromium")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(browser: Any, training: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A page over a sweep of one run, scored on validation rows."""
    cwd = tmp_path_factory.mktemp("demo")
    quick = ["data.prompt=question", "optim.max_steps=5", "hydra.sweep.dir=multirun/tiny"]
    for door, arguments in (
        ("train", ["-m", *training, *quick, "seed=1"]),
        ("evaluate", ["run=latest", "split=validation", "rows=6", "trainer=cpu", "trainer.threads=1"]),
    ):
        result = run_command(door, *arguments, cwd=cwd)
        assert result.returncode == 0, result.stderr
    log = cwd / "demo.log"
    quick = ["trainer=cpu", "trainer.threads=1", "decode.max_new_tokens=6"]
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "medsql.demo", *quick], cwd=cwd, stdout=output, stderr=output, text=True
        )
    try:
        found = re.compile(r"(?<=the page is at )http://127\.0\.0\.1:\d+")
        wait_for(lambda: found.search(log.read_text()), process, seconds=400)
        yield found.findall(log.read_text())[0]
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 143
        assert "Traceback" not in log.read_text()


Open = Callable[..., Any]


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Open]:
    """Open the page as a new visitor; whatever leaves the machine, or fails in the page, fails the test."""
    strange: list[str] = []
    contexts = []

    def new_page(size: tuple[int, int] = WIDE) -> Any:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: strange.append(request.url) if outside(request.url) else None)
        page.on("pageerror", lambda error: strange.append(str(error)))
        page.on("dialog", lambda dialog: strange.append(dialog.message))
        page.goto(address)
        page.get_by_label("Question", exact=True).wait_for()
        return page

    def outside(url: str) -> bool:
        return not url.startswith((address, "data:", "blob:"))

    yield new_page
    for context in contexts:
        context.close()
    assert strange == []


def ask(page: Any, question: str, reference: str = "") -> None:
    page.get_by_label("Reference SQL").fill(reference)
    page.get_by_label("Question", exact=True).fill(question)
    page.get_by_label("Question", exact=True).press("Enter")


def heading(page: Any, text: str) -> Any:
    return page.get_by_role("heading", name=text)


def test_no_script_style_or_font_of_the_page_comes_from_elsewhere(visit, address):
    page = visit()
    html = page.content()
    assert not re.findall(r"<(?:script|link|iframe|img)[^>]+(?:src|href)=[\"']https?://(?!127)[^\"']+", html)
    assert page.locator("script[src*=iframeResizer]").get_attribute("src").startswith(address)


def test_a_question_is_answered_by_both_and_scored(visit):
    page = visit()
    ask(page, "how many patients?", "SELECT AGE FROM DEMOGRAPHIC")
    heading(page, "1. how many patients?").wait_for()
    for part in ("baseline, zero-shot", "fine-tuned", "reference"):
        heading(page, part).wait_for()
    assert page.locator("table.scores tbody tr").count() == 7
    assert page.locator("article .no").first.inner_text().startswith("not valid")


@pytest.mark.parametrize("width", [1180, 1000])
def test_the_scores_stay_in_their_column_of_a_narrow_window(visit, width):
    page = visit((width, 900))
    ask(page, "how many patients?", "SELECT AGE FROM DEMOGRAPHIC")
    scores = page.locator("table.scores")
    scores.wait_for()
    right = "element => element.getBoundingClientRect().right"
    column = scores.locator("xpath=..")
    padding = column.evaluate("element => parseFloat(getComputedStyle(element).paddingRight)")
    assert scores.evaluate(right) <= column.evaluate(right) - padding


def test_a_corrected_question_keeps_the_history_in_sight(visit):
    page = visit()
    ask(page, "how many patients?")
    corrected = page.get_by_label("Not what was meant?")
    corrected.wait_for()
    assert corrected.input_value() == "how many patients?"
    corrected.fill("how many female patients?")
    corrected.press("Enter")
    heading(page, "2. how many female patients?").wait_for()
    turns = page.locator(".history > li")
    assert "instead of 1:" in turns.nth(0).inner_text() and "how many patients?" in turns.nth(1).inner_text()
    page.get_by_role("button", name="Forget the history").click()
    turns.first.wait_for(state="detached")


def test_two_visitors_do_not_see_each_others_history(visit):
    one, other = visit(), visit()
    ask(one, "is this the first visitor's?")
    ask(other, "is this the second visitor's?")
    heading(one, "1. is this the first").wait_for()
    heading(other, "1. is this the second").wait_for()
    assert "second visitor" not in one.content() and "first visitor" not in other.content()


@pytest.mark.parametrize(
    ("question", "says"),
    [
        ("   ", "There is no question yet"),
        ("how many? " * 500, "4,999 characters long"),
        ("<script>alert(1)</script> ${alert(1)} {{ 1 }} <img src=x onerror=alert(1)>", "<script>alert(1)"),
        ("'; DROP TABLE DEMOGRAPHIC; --", "This looks like SQL"),
        ("сколько пациентов старше 65 лет?", "does not look like English"),
    ],
)
def test_whatever_is_asked_gets_a_friendly_answer(visit, question, says):
    page = visit()
    ask(page, question)
    page.locator(".message, .turn h3").filter(has_text=says).first.wait_for()


def test_the_keyboard_alone_suffices(visit):
    page = visit()
    page.wait_for_function("document.querySelector('[aria-label=\"Fine-tuned run\"]').value")
    page.get_by_label("Sample questions").focus()
    for key in ["ArrowDown"] * 6 + ["Enter"]:
        page.wait_for_timeout(100)
        page.keyboard.press(key)
    question = page.get_by_label("Question", exact=True)
    page.wait_for_function("() => [...document.querySelectorAll('textarea')].some(e => e.value)")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.innerText") == "Ask":
            break
    page.keyboard.press("Enter")
    heading(page, f"1. {question.input_value()}").wait_for()
    page.get_by_role("tab", name="Ask").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator(".wrong").first.wait_for()


@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_errors_and_sweeps_are_browsed_in_any_window(visit, size):
    page = visit(size)
    page.get_by_role("tab", name="Errors").click()
    page.locator(".wrong").first.wait_for()
    assert page.locator(".wrong").count() == 5 and page.locator(".wrong mark").count() > 0
    page.get_by_role("tab", name="Leaderboard").click()
    heading(page, "multirun/tiny, 1 run").wait_for()
    ask_tab = page.get_by_role("tab", name="Ask")
    ask_tab.click()
    ask(page, "how many?")
    heading(page, "1. how many?").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is cut at the side"
