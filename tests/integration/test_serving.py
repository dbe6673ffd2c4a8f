"""`serve` as its users meet it: OpenAI's own client, a browser, Prometheus, 50 requests at once, and its end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.serving import expected_answers, run_load
from bridge_common.metric_names import CONDITIONS
from ray_bridge import Translator
from tests.support.browsers import chromium, needs_chromium
from tests.support.command_line import ROOT
from tests.support.local_jobs import finish_trial, small_spec
from tests.support.model_pairs import make_pair
from tests.support.servers import Server, serving, starting
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow
TOKEN = "a-token-of-some-length"
QUESTIONS = [f"Ann has {'dodici ' * n}pens and {n} more." for n in range(1, 9)]
MOST_CHARS = 1000
TIMEOUT_S = 300
"""Of a request: none takes so long, however busy the machine is, unless it is lost."""


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a trial whose translator was trained for two steps; its answers are 24 tokens of nonsense."""
    spec = small_spec(
        make_pair(tmp_path_factory.mktemp("pair")), steps=2, eval_every=2, warmup_steps=1, max_new_tokens=24
    )
    return finish_trial(spec, tmp_path_factory.mktemp("campaign") / "trials" / "full-0")


@pytest.fixture(scope="module")
def translator(trial: Path) -> Translator:
    return Translator.load(trial, device="cpu")


@pytest.fixture(scope="module")
def server(trial: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a server with a token; Ctrl-C must end it and all of its processes."""
    log = tmp_path_factory.mktemp("server") / "server.log"
    limit = ("--max-question-chars", str(MOST_CHARS), "--max-queue", "96")
    with serving(trial, *limit, log=log, ABLATE_SERVE_TOKEN=TOKEN) as running:
        yield running
        started = psutil.Process(running.process.pid).children(recursive=True)
        assert any("raylet" in process.name() for process in started)
        assert running.end(signal.SIGINT) == 0
        printed = [line for line in log.read_text().splitlines() if "(raylet)" not in line]  # of the killed replica
        assert printed[1:] == ["ended"], log.read_text()
        wait_for(lambda: not any(process.is_running() for process in started), 20, "Ray's processes are gone")


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=TOKEN, max_retries=0, timeout=TIMEOUT_S)


def post(server: Server, path: str, body: Any, timeout: float = TIMEOUT_S) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=timeout)


def metric(server: Server, name: str, **labels: str) -> float:
    text = httpx.get(f"{server.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=TIMEOUT_S).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


def test_the_public_client_gets_the_translators_answers(client: openai.OpenAI, translator: Translator) -> None:
    (model,) = client.models.list().data
    assert model.id == "full-0"
    assert client.models.retrieve("full-0").id == "full-0"
    alone = translator.generate(QUESTIONS[0])

    completion = client.completions.create(model=model.id, prompt=QUESTIONS[0])
    assert completion.choices[0].text == alone.text
    assert completion.choices[0].finish_reason == ("length" if alone.truncated else "stop")
    assert completion.usage is not None
    assert completion.usage.completion_tokens == alone.tokens
    assert completion.usage.prompt_tokens == translator.prompt_tokens(QUESTIONS[0])

    chat = client.chat.completions.create(model=model.id, messages=[{"role": "user", "content": QUESTIONS[0]}])
    assert (chat.choices[0].message.role, chat.choices[0].message.content) == ("assistant", alone.text)

    several = client.completions.create(model=model.id, prompt=QUESTIONS, max_tokens=5, temperature=1.5, seed=3)
    texts = [choice.text for choice in several.choices]
    assert texts == [a.text for a in translator.generate(QUESTIONS, max_new_tokens=5, temperature=1.5, seed=3)]
    assert [choice.index for choice in several.choices] == list(range(len(QUESTIONS)))


def test_the_public_client_reads_streams(client: openai.OpenAI, translator: Translator) -> None:
    alone = translator.generate(QUESTIONS[1])
    pieces = list(client.completions.create(model="full-0", prompt=QUESTIONS[1], stream=True))
    assert "".join(piece.choices[0].text for piece in pieces) == alone.text
    assert len(pieces) > 3
    reasons = [piece.choices[0].finish_reason for piece in pieces]
    assert [reason for reason in reasons if reason] == ["length" if alone.truncated else "stop"]
    assert reasons[-1]

    stream = client.chat.completions.create(
        model="full-0",
        messages=[{"role": "user", "content": QUESTIONS[1]}],
        stream=True,
        stream_options={"include_usage": True},
    )
    *chunks, last = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == alone.text
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == alone.tokens

    several = client.completions.create(model="full-0", prompt=QUESTIONS[:3], stream=True)
    texts = ["", "", ""]
    for piece in several:
        texts[piece.choices[0].index] += piece.choices[0].text
    assert texts == [translator.generate(question).text for question in QUESTIONS[:3]]


def test_a_client_that_leaves_a_stream_holds_nothing_up(server: Server, client: openai.OpenAI) -> None:
    for _ in range(5):
        with client.completions.create(model="full-0", prompt=QUESTIONS, stream=True) as stream:
            next(iter(stream))
    assert client.completions.create(model="full-0", prompt=QUESTIONS[0]).choices[0].text
    wait_for(lambda: metric(server, "ray_bridge_open_requests") == 0, 20, "no request is left open")


def test_conditions_are_compared(server: Server, translator: Translator) -> None:
    found = post(server, "/compare", {"question": QUESTIONS[2]}).json()
    alone = translator.compare(QUESTIONS[2])
    assert list(found["answers"]) == list(CONDITIONS)
    assert {name: answer["text"] for name, answer in found["answers"].items()} == {
        name: answer.text for name, answer in alone.items()
    }
    assert all(answer["tokens"] > 0 and answer["milliseconds"] > 0 for answer in found["answers"].values())
    some = post(server, "/compare", {"question": QUESTIONS[2], "conditions": ["target_alone"]}).json()
    assert list(some["answers"]) == ["target_alone"]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/completions", {"prompt": "pens " * 300}, 413, "the question has 1,500 characters: at most 1,000"),
        ("/v1/completions", {"prompt": "x", "max_tokens": 25}, 413, "max_tokens=25: at most 24"),
        ("/v1/completions", {"prompt": ["x"] * 65}, 413, "65 prompts: at most 64 in one request"),
        ("/v1/completions", {"prompt": "字" * 1000}, 413, "ask a shorter question, or for fewer new tokens"),
        ("/v1/completions", {"prompt": "字" * 1000, "stream": True}, 413, "ask a shorter question"),
        ("/v1/completions", {"prompt": "x", "filler": "x" * 2**20}, 413, "the body has "),
        ("/compare", {"question": "x" * 1001}, 413, "the question has 1,001 characters: at most 1,000"),
        ("/v1/completions", {"prompt": "  "}, 400, "the question is empty"),
        ("/v1/completions", {"prompt": "  ", "stream": True}, 400, "the question is empty"),
        ("/v1/completions", {"prompt": []}, 400, "give one prompt at least"),
        ("/v1/completions", {"prompt": "x", "n": 2}, 400, "n is not supported: leave it out"),
        ("/v1/completions", {}, 400, "prompt: Field required"),
        ("/v1/completions", {"prompt": "x", "model": "gpt"}, 404, "no model 'gpt' is served here: use 'full-0'"),
        ("/v1/chat/completions", {"messages": [{"role": "system", "content": "x"}]}, 400, "messages.0.role: "),
        ("/compare", {"question": "x", "conditions": ["nobody"]}, 400, "no condition 'nobody': use bridged"),
        ("/v1/embeddings", {"input": "x"}, 404, "Not Found"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(
    path: str, body: dict[str, Any], status: int, message: str, server: Server
) -> None:
    answer = post(server, path, ({"model": "full-0"} if path.startswith("/v1") else {}) | body)
    error = answer.json()["error"]
    assert (answer.status_code, error["message"][: len(message)]) == (status, message) or message in error["message"]
    assert answer.status_code == status
    assert "\n" not in error["message"]


def test_a_page_of_another_site_cannot_ask_in_a_form(server: Server) -> None:
    body = json.dumps({"question": "x"})
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "text/plain"}
    answer = httpx.post(f"{server.url}/compare", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "send a JSON object with Content-Type: application/json"


def test_the_token_is_demanded(server: Server) -> None:
    stranger = openai.OpenAI(base_url=f"{server.url}/v1", api_key="another-token-of-length", max_retries=0)
    with pytest.raises(openai.AuthenticationError, match="send the server's token"):
        stranger.models.list()
    assert httpx.get(f"{server.url}/metrics").status_code == 401
    assert httpx.get(f"{server.url}/health").json() == {"status": "ok"}


def test_50_requests_at_once_are_answered_as_each_alone(server: Server, trial: Path) -> None:
    before = metric(server, "ray_bridge_requests_total", path="/v1/completions", status="200")
    load = run_load(server.url, "full-0", expected_answers(trial, QUESTIONS), clients=50, seconds=6, token=TOKEN)
    assert (load.lost, load.wrong) == ([], [])
    assert len(load.seconds) >= 50
    counted = metric(server, "ray_bridge_requests_total", path="/v1/completions", status="200") - before
    assert counted == len(load.seconds)
    assert metric(server, "ray_bridge_batch_questions_bucket", le="1.0") < metric(
        server, "ray_bridge_batch_questions_count"
    ), "questions that wait are decoded together"


def test_a_full_queue_is_said_and_answers_go_on(server: Server, client: openai.OpenAI) -> None:
    """Two requests of 64 questions fill 32 places and a queue of 96; others are refused, whole and at once."""
    body = {"model": "full-0", "prompt": [QUESTIONS[0]] * 64}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: post(server, "/v1/completions", body), range(6)))
    assert {answer.status_code for answer in answers} == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["message"] == "the queue has room for 0, not for 64 questions: ask again later"
    assert refused.headers["retry-after"] == "1"
    with pytest.raises(openai.RateLimitError), ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: client.completions.create(model="full-0", prompt=[QUESTIONS[0]] * 64), range(6)))
    assert client.completions.create(model="full-0", prompt=QUESTIONS[0]).choices[0].text


@pytest.mark.parametrize("stream", [False, True])
def test_questions_that_nobody_waits_for_are_not_decoded(stream: bool, server: Server) -> None:
    """128 questions are eight batches; those that wait when their client leaves or is refused are not decoded."""

    def ask(first: str, timeout: float) -> None:
        body = {"model": "full-0", "prompt": [first] + [QUESTIONS[0]] * 63, "stream": stream}
        with suppress(httpx.ReadTimeout):
            post(server, "/v1/completions", body, timeout=timeout)

    def begun(first: str, timeout: float) -> float:
        before = metric(server, "ray_bridge_begun_questions")
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: ask(first, timeout), range(2)))
        post(server, "/v1/completions", {"model": "full-0", "prompt": QUESTIONS[0]})
        return metric(server, "ray_bridge_begun_questions") - before

    began = time.monotonic()
    assert begun(QUESTIONS[0], TIMEOUT_S) == 129
    assert begun(QUESTIONS[0], (time.monotonic() - began) / 16) < 129
    assert begun("字" * 1000, TIMEOUT_S) < 90, "the first question is too long for the model"
    wait_for(lambda: metric(server, "ray_bridge_open_requests") == 0, 20, "no request is left open")


def test_a_replica_that_dies_is_started_again(server: Server, client: openai.OpenAI) -> None:
    def replicas() -> list[psutil.Process]:
        children = psutil.Process(server.process.pid).children(recursive=True)
        return [process for process in children if "translator:Model" in " ".join(process.cmdline())]

    def health() -> int | None:
        try:
            return httpx.get(f"{server.url}/health").status_code
        except httpx.TimeoutException:  # while the other replica starts, both cores are busy
            return None

    (replica,) = replicas()
    os.kill(replica.pid, signal.SIGKILL)
    wait_for(lambda: health() == 503, 30, "the server says that no replica runs")
    wait_for(lambda: health() == 200, 120, "another replica runs")
    assert client.completions.create(model="full-0", prompt=QUESTIONS[0]).choices[0].text


@needs_chromium
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_page_shows_four_answers_side_by_side(
    width: int, dark: bool, server: Server, translator: Translator, tmp_path: Path
) -> None:
    with chromium(width=width, height=900, dark=dark) as browser:

        def run(script: str) -> Any:
            return browser.execute_script(f"return {script}")

        browser.get(server.url)
        wait_for(lambda: run("!document.getElementById('locked').hidden"), 20, "the page asks for the token")
        browser.find_element("id", "token").send_keys(TOKEN)
        browser.find_element("id", "question").send_keys(QUESTIONS[3])
        browser.find_element("id", "send").click()
        wait_for(lambda: run("document.querySelectorAll('article').length") == 4, 60, "four answers")
        titles = [card.find_element("tag name", "h2").text for card in browser.find_elements("tag name", "article")]
        assert titles == ["Source alone", "Target alone", "Bridged", "Text bridge"]
        alone = translator.compare(QUESTIONS[3])
        for name in ("source_alone", "target_alone", "bridged", "text_bridge"):
            texts = run(f"[...document.querySelectorAll('article.{name} > *')].map(part => part.textContent)")
            assert texts[2] == (alone[name].text.strip() or "(nothing)")
            assert texts[-1].startswith(f"{alone[name].tokens} tokens, ")
            assert " ms" in texts[-1]
        assert "full-0: " in run("document.getElementById('model').textContent")

        tops = set(run("[...document.querySelectorAll('article')].map(card => Math.round(card.offsetTop))"))
        assert len(tops) == (1 if width > 1000 else 4), "side by side on a screen, one below the other on a phone"
        assert run("document.documentElement.scrollWidth") <= width, "nothing is cut off at the side"
        ground = run("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(","))) < 200) == dark
        browser.save_screenshot(str(tmp_path / "page.png"))

        # What a model wrote stays text, and the policy would not run it either.
        hostile = '<img src=x onerror="window.hacked = 1"><script>window.hacked = 1</script>'
        answer = json.dumps({"text": hostile, "final": hostile, "tokens": 1, "truncated": False, "milliseconds": 1})
        run(f"document.getElementById('answers').replaceChildren(card(CONDITIONS[0], {answer}))")
        assert run("document.querySelector('article pre').textContent") == hostile
        assert run("document.querySelectorAll('article img, article script').length") == 0
        assert run("window.hacked === undefined")

        browser.find_element("id", "question").clear()
        browser.find_element("id", "question").send_keys("pen " * 300)
        browser.find_element("id", "send").click()
        wait_for(
            lambda: "at most 1,000" in run("document.getElementById('state').textContent"), 20, "an error is shown"
        )
        assert run("document.querySelectorAll('article').length") == 0, "no answers of another question stand below it"
        events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
        asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
        assert all(url.startswith((server.url, "data:")) for url in asked), "nothing comes from elsewhere"
        problems = [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]
        assert [line for line in problems if " 401 " not in line and " 413 " not in line] == []


def test_a_server_that_is_starting_can_be_ended(trial: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with starting(trial, "--port", "28991", log=log) as process:
        parent = psutil.Process(process.pid)
        wait_for(lambda: any("raylet" in child.name() for child in parent.children(recursive=True)), 60, "Ray starts")
        started = parent.children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    wait_for(lambda: not any(child.is_running() for child in started), 20, "Ray's processes are gone")
    assert log.read_text().strip() == "ended"


def test_a_cluster_without_room_for_a_replica_is_said_and_the_wait_can_be_ended(
    trial: Path, ray_head: Any, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with starting(trial, "--cpus", "999", "--port", "28993", log=log, RAY_ADDRESS=ray_head.address) as process:
        wait_for(lambda: "note: no node has 999 CPUs: waiting for one" in log.read_text(), 90, "the note")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert log.read_text().splitlines()[-1] == "ended"


def test_a_translator_that_cannot_be_loaded_is_one_line(trial: Path, translator: Translator, tmp_path: Path) -> None:
    translator.save_pretrained(tmp_path / "export")
    (tmp_path / "export" / "translator.safetensors").write_bytes(b"torn")
    done = subprocess.run(
        [sys.executable, "-m", "cluster", "serve", str(tmp_path / "export"), "--port", "28992"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "does not hold this translator's weights" in line
