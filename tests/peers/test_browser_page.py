"""The page in a real browser, used as a person would: every tab, both languages, both themes, a phone, a keyboard."""

import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("axe_playwright_python")
pytest.importorskip("playwright")

from axe_playwright_python import sync_playwright as axe
from playwright import sync_api as api

from clearhead.apply import Model
from clearhead.bundle import Bundle
from clearhead.model import ModelConfig, Transformer
from clearhead.serve.config import ServeConfig
from clearhead.serve.hall import Hall
from clearhead.serve.server import Server, listen, settings
from clearhead.text import train_tokenizer

CHROMIUM = shutil.which("chromium")
pytestmark = [pytest.mark.peers, pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")]
LAYERS = {"writer": (0, 2), "translator": (2, 2), "reader": (2, 0), "loud": (0, 1)}
MARKUP = "<img src=x onerror=alert(1)>"
ROOMS = ["translate", "complete", "inside", "runs", "lab"]
EACH_LANGUAGE = pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
HARMFUL = {"serious", "critical"}
expect = api.expect


def tiny_model(name: str) -> Model:
    """A small random model that speaks bytes; `loud` repeats some markup for ever."""
    torch.manual_seed(11)
    tokenizer = train_tokenizer("byte", ["irrelevant"])
    encoder, decoder = LAYERS[name]
    sizes = {"encoder_layers": encoder, "decoder_layers": decoder, "d_model": 12, "heads": 2, "d_ff": 20, "length": 300}
    vocab = {"source_vocab": tokenizer.vocab_size, "target_vocab": tokenizer.vocab_size, "pad": tokenizer.need("pad")}
    model = Transformer(ModelConfig(**{**sizes, **vocab, "dropout": 0.0}))
    bundle = Bundle(model, tokenizer, tokenizer, {"beams": 2, "length_extra": 5, "length_factor": 0.5})
    if name == "loud":
        model.head = Repeating(tokenizer.encode(MARKUP), tokenizer.vocab_size)
    return Model(bundle, engine=ServeConfig().engine)


class Repeating(torch.nn.Module):
    """A head that says these tokens over and over, whatever the model has read."""

    linear = False

    def __init__(self, ids: list[int], vocab: int) -> None:
        super().__init__()
        self.ids, self.vocab, self.count = ids, vocab, 0

    def forward(self, hidden: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
        scores = torch.zeros(*hidden.shape[:-1], self.vocab)
        scores[..., self.ids[self.count % len(self.ids)]] = 99.0
        self.count += 1
        return scores


def write_run(folder: Path, name: str) -> Path:
    run = folder / name
    run.mkdir(parents=True)
    rows = []
    for update in range(50, 1050, 50):
        rows.append({"kind": "train", "update": update, "loss": 9 - update / 200, "nll": 8 - update / 200})
        rows[-1] |= {"learning_rate": 1e-3, "gradient_norm": 1.5, "tokens_per_second": 4000.0, "epoch": 1}
    pairs = [{"source": "一只猫", "output": MARKUP, "reference": "a cat"}]
    rows.append({"kind": "valid", "update": 1000, "loss": 4.0, "bleu": 21.5, "samples": pairs})
    (run / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    (run / "recipe.yaml").write_text("train:\n  updates: 2000\n")
    return run


def write_report(folder: Path) -> None:
    folder.mkdir()
    title = {"en": "Why scale?", "zh": "为什么要缩放？"}
    verdicts = [{"verdict": "supported"}, {"verdict": "refuted"}]
    (folder / "why.json").write_text(json.dumps({"id": "why", "title": title, "verdicts": verdicts}))
    for name in ("index.html", "why.html"):
        (folder / name).write_text("<!doctype html><html lang=en><title>report</title><p>the report</p></html>")


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    write_run(folder / "runs", "first")
    write_report(folder / "lab")
    return folder


@pytest.fixture(scope="session")
def address(folders) -> Iterator[str]:
    hall = Hall.of({name: tiny_model(name) for name in LAYERS})
    config = ServeConfig(port=0, runs=folders / "runs", lab=folders / "lab")
    with listen(config) as listener:
        listener.listen(64)
        started = threading.Event()
        server = Server(settings(hall, config), started.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        assert started.wait(60)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    with api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, address):
    """Open the page; at the end nothing may have been complained about, and nobody else been asked."""
    opened, wrong = [], []

    def build(room="translate", *, width=1280, **settings):
        context = browser.new_context(**{"viewport": {"width": width, "height": 800}, "locale": "en-GB", **settings})
        opened.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append("a dialog of the browser"), dialog.dismiss()))
        page.on("request", lambda request: None if ours(request.url, address) else wrong.append(request.url))
        page.goto(f"{address}/#/{room}")
        page.wait_for_selector("#inside-model option", state="attached")
        return page

    build.wrong = wrong
    yield build
    for each in opened:
        each.close()
    assert not wrong


def ours(url: str, address: str) -> bool:
    return url.startswith((f"{address}/", "data:", "blob:"))


def translated(page, text="abc. Def"):
    page.fill("#translate-source", text)
    page.click("#translate-go")
    expect(page.locator("#translate-time")).not_to_be_empty()
    expect(page.locator("#alignment-output .token").first).to_be_visible()


def looked(page, model="writer", text="ab ac"):
    page.select_option("#inside-model", model)
    page.fill("#inside-text", text)
    page.click("#inside-form button[type=submit]")
    expect(page.locator("#inside-state")).to_contain_text(re.compile(r"\d"))
    expect(page.locator("#inside-numbers dd").first).to_be_visible()


def fill_room(page, room):
    """Bring a tab into the state in which there is most to see."""
    if room == "translate":
        translated(page)
    if room == "complete":
        page.select_option("#complete-model", "writer")
        page.fill("#completion-prompt", "ab")
        if not page.locator("#sampling-card").evaluate("(card) => card.open"):  # a phone begins without it
            page.click("#sampling-card summary")
        page.fill("#sampling-max_tokens", "8")
        page.click("#completion button[type=submit]")
        expect(page.locator("#completion-output:not(.busy)")).not_to_be_empty()
    if room == "inside":
        looked(page)
    if room == "runs":
        expect(page.locator("#runs-charts figure").first).to_be_visible()
    if room == "lab":
        expect(page.locator("#lab-list li")).to_have_count(1)


@EACH_LANGUAGE
def test_a_text_is_translated_with_candidates_and_alignment(visit, language):
    page = visit(locale=language)
    translated(page, "abc. Def\nGhi")
    expect(page.locator("#alignment-sentence option")).to_have_count(3)
    assert page.locator("#n-best-list input").count() == 3  # the best and two alternatives
    page.hover("#alignment-output .token:nth-child(2)")
    first = page.inner_text("#alignment-readout")
    page.focus("#alignment-output .token:nth-child(2)")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#alignment-output .token:nth-child(3)")).to_be_focused()
    expect(page.locator("#alignment-readout")).not_to_have_text(first)
    shades = page.eval_on_selector_all(
        "#alignment-source .token", "all => all.map((each) => Number(each.style.getPropertyValue('--w')))"
    )
    assert max(shades) == 1.0
    assert "%" in page.inner_text("#alignment-readout")
    page.select_option("#alignment-sentence", "2")
    expect(page.locator("#alignment-source .token")).to_have_count(4)  # three bytes and the end
    page.check("#n-best-list input >> nth=1")
    expect(page.locator("#alignment-output .token").first).to_be_visible()


@EACH_LANGUAGE
def test_a_text_is_continued_word_by_word_and_stopped(visit, language):
    page = visit("complete", locale=language)
    page.select_option("#complete-model", "writer")
    page.fill("#completion-prompt", "abc")
    page.fill("#sampling-max_tokens", "250")
    page.fill("#sampling-seed", "7")
    page.click("#completion button[type=submit]")
    page.click("#completion-stop")
    state = page.locator("#completion-state")
    expect(state).to_contain_text(re.compile("Stopped|已|Finished"))
    page.fill("#sampling-max_tokens", "20")
    texts = []
    for _ in range(2):
        page.click("#completion button[type=submit]")
        expect(page.locator("#completion-stop")).to_be_disabled()
        texts.append(page.inner_text("#completion-output"))
    assert texts[0] == texts[1]  # one seed, one draw
    assert re.search(r"\d", state.inner_text())
    page.fill("#sampling-temperature", "0")
    page.keyboard.press("Tab")
    expect(page.locator("#sampling-top_p")).to_be_disabled()
    before = len(page.input_value("#completion-prompt"))
    page.click("#completion-append")
    assert len(page.input_value("#completion-prompt")) > before


@EACH_LANGUAGE
def test_a_conversation_is_held_saved_and_read_again(visit, language, tmp_path):
    page = visit("complete", locale=language)
    page.select_option("#complete-model", "writer")
    page.check("input[value=chat]", force=True)
    page.fill("#sampling-max_tokens", "8")
    page.fill("#chat-input", "Hello\nthere")
    page.press("#chat-input", "Enter")
    expect(page.locator(".turn.assistant:not(.busy)")).to_have_count(1)
    with page.expect_download() as download:
        page.click("#chat-export")
    path = tmp_path / "talk.json"
    download.value.save_as(path)
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert [each["role"] for each in saved["messages"]] == ["user", "assistant"]
    assert saved["messages"][0]["content"] == "Hello\nthere"
    assert saved["sampling"]["max_tokens"] == 8
    page.click("#chat-clear")
    expect(page.locator(".turn")).to_have_count(0)
    page.set_input_files("#chat-file", path)
    expect(page.locator(".turn")).to_have_count(2)
    assert page.inner_text(".turn.assistant .said") == saved["messages"][1]["content"].strip("\n")
    page.click("#chat-again")
    expect(page.locator(".turn.assistant:not(.busy)")).to_have_count(1)


@pytest.mark.parametrize(
    "content", ["no json", "{}", '{"messages": [{"role": "robot", "content": "x"}]}', '{"messages": [1]}']
)
def test_a_file_that_is_no_conversation_is_refused(visit, tmp_path, content):
    page = visit("complete")
    page.select_option("#complete-model", "writer")
    page.check("input[value=chat]", force=True)
    path = tmp_path / "talk.json"
    path.write_text(content)
    page.set_input_files("#chat-file", path)
    expect(page.locator("#trouble")).to_contain_text("holds no conversation")


@EACH_LANGUAGE
@pytest.mark.parametrize("model", ["writer", "translator", "reader"])
def test_a_model_is_looked_into(visit, language, model):
    page = visit("inside", locale=language)
    looked(page, model)
    side = "encoder" if model == "reader" else "decoder"
    assert page.locator(f"#inside-tokens [aria-labelledby=tokens-{side}] .token").count() > 1
    assert page.locator("#inside-heads .head").count() == 4  # two layers of two heads
    page.focus("#inside-heads .head >> nth=0")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#inside-heads .head >> nth=2")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#inside-heads .head >> nth=2")).to_have_attribute("aria-pressed", "true")
    before = page.inner_text("#inside-readout")
    page.focus("#inside-matrix")
    page.keyboard.press("ArrowUp")
    expect(page.locator("#inside-readout")).not_to_have_text(before)
    assert page.locator("#inside-lens tbody tr").count() == 3  # before the first layer, and after each
    place = page.inner_text("#lens-place")
    page.click("#lens-before")
    expect(page.locator("#lens-place")).not_to_have_text(place)
    expect(page.locator("#inside-tokens .token[aria-pressed=true]")).to_have_count(1)
    assert page.locator("#inside-pictures figure").count() == 2
    assert page.locator("#inside-cache-card").is_visible() == (model != "reader")


def test_every_site_of_a_translator_can_be_chosen(visit):
    page = visit("inside")
    looked(page, "translator")
    for site, word in (("encoder", "Encoder"), ("decoder", "Decoder"), ("cross", "Cross")):
        page.select_option("#inside-site", site)
        expect(page.locator("#inside-head-name")).to_contain_text(word)


def test_a_text_that_is_too_long_is_told(visit):
    page = visit("inside")
    page.select_option("#inside-model", "writer")
    page.fill("#inside-text", "a" * 400)
    page.click("#inside-form button[type=submit]")
    expect(page.locator("#trouble")).to_contain_text("too long to look inside")
    assert all("400" in each for each in visit.wrong)  # the browser notes the status of the refusal
    visit.wrong.clear()


@EACH_LANGUAGE
def test_a_run_is_followed_while_it_grows(visit, language, folders):
    page = visit("runs", locale=language)
    expect(page.locator("#runs-which")).to_have_value("first")
    expect(page.locator("#runs-charts figure:visible")).to_have_count(5)
    expect(page.locator("#runs-samples td").nth(1)).to_have_text(MARKUP)
    assert "1,000 / 2,000" in page.inner_text("#runs-numbers")
    path = folders / "runs" / "first" / "metrics.jsonl"
    whole = path.read_text(encoding="utf-8")
    with path.open("a", encoding="utf-8") as file:
        file.write('{"kind": "train", "update": 1234, "loss": 1.5}\n{"kind": "tra')
    try:
        expect(page.locator("#runs-numbers")).to_contain_text("1,234 / 2,000")
    finally:
        path.write_text(whole, encoding="utf-8")
    page.focus("#runs-charts canvas >> nth=0")
    before = page.inner_text("#runs-charts .readout >> nth=0")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#runs-charts .readout").first).not_to_have_text(before)


@EACH_LANGUAGE
def test_the_report_of_the_lab_is_listed_and_opened(visit, language):
    page = visit("lab", locale=language)
    title = "Why scale?" if language == "en-GB" else "为什么要缩放？"
    link = page.get_by_role("link", name=title)
    expect(link).to_be_visible()
    page.fill("#lab-search", "nothing like it")
    expect(link).to_be_hidden()
    page.fill("#lab-search", "SCALE")
    link.click()
    expect(page.locator("p")).to_have_text("the report")


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_serious_stands_between_people_and_the_page(visit, room, theme):
    page = visit(room, color_scheme=theme, bypass_csp=True)  # axe is put into the page as a script
    fill_room(page, room)
    page.wait_for_timeout(300)  # until colours have changed
    found = [each for each in axe.Axe().run(page).response["violations"] if each["impact"] in HARMFUL]
    assert not found, [(each["id"], each["nodes"][0]["html"], each["nodes"][0]["failureSummary"]) for each in found]


@pytest.mark.parametrize("room", ROOMS)
@EACH_LANGUAGE
def test_a_phone_shows_all_without_scrolling_sideways(visit, room, language):
    page = visit(room, width=360, locale=language)
    fill_room(page, room)
    wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0


def test_the_keyboard_reaches_every_tab_and_the_address_remembers_it(visit):
    page = visit()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.focus("#tab-translate")
    for room in ROOMS[1:]:
        page.keyboard.press("ArrowRight")
        expect(page.locator(f"#tab-{room}")).to_be_focused()
        expect(page.locator(f"#{room}")).to_be_visible()
        assert page.locator("[role=tabpanel]:visible").count() == 1
    assert page.evaluate("() => location.hash") == "#/lab"
    page.keyboard.press("Home")
    expect(page.locator("#translate")).to_be_visible()
    assert page.locator("[role=tab][tabindex='0']").count() == 1


def test_language_and_theme_are_remembered(visit):
    page = visit(color_scheme="light")
    page.click("#language")
    expect(page.locator("#tab-translate")).to_have_text("翻译")
    page.click("#theme")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("#tab-translate")).to_have_text("翻译")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")


def test_what_a_model_writes_never_becomes_markup(visit):
    page = visit("complete")
    page.select_option("#complete-model", "loud")
    page.fill("#completion-prompt", MARKUP)
    page.fill("#sampling-max_tokens", "56")
    page.click("#completion button[type=submit]")
    expect(page.locator("#completion-stop")).to_be_disabled()
    assert page.inner_text("#completion-output").count("onerror") >= 2
    page.check("input[value=chat]", force=True)
    page.fill("#chat-input", MARKUP)
    page.press("#chat-input", "Enter")
    expect(page.locator(".turn.assistant:not(.busy)")).to_contain_text("onerror")
    page.click("#tab-inside")
    looked(page, "writer", MARKUP)
    page.click("#tab-translate")
    translated(page, MARKUP)
    page.click("#tab-runs")
    expect(page.locator("#runs-samples")).to_contain_text("onerror")
    assert page.locator("main img").count() == 0


def test_long_texts_stay_fluid(visit):
    page = visit("inside")
    started = page.evaluate("() => performance.now()")
    looked(page, "writer", "abcdefgh " * 27)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.evaluate("() => performance.now()") - started < 60_000
    assert page.locator("#inside-tokens .token").count() == 244
    page.click("#tab-complete")
    page.select_option("#complete-model", "writer")
    page.fill("#completion-prompt", "x" * 200_000)
    page.click("#completion button[type=submit]")
    expect(page.locator("#trouble")).to_be_visible()
    visit.wrong.clear()  # the browser notes the status of the refusal


def test_a_server_with_a_key_is_opened_by_it(browser, folders):
    hall = Hall.of({"writer": tiny_model("writer")})
    config = ServeConfig(port=0, api_keys=("secret-key",))
    with listen(config) as listener:
        listener.listen(16)
        started = threading.Event()
        server = Server(settings(hall, config), started.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        assert started.wait(60)
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}/#/inside")
        page.fill("#key", "secret-key")
        page.click("#key-form button[value=ok]")
        page.wait_for_selector("#inside-model option", state="attached")
        page.reload()
        page.wait_for_selector("#inside-model option", state="attached")
        page.close()
        server.should_exit = True
        thread.join(30)
