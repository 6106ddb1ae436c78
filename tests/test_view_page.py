"""Pages of `diarize view` in a browser: skipped where there is no Chromium."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scripts import load_script

from diarize.formats.posteriors import Posteriors, write_posteriors
from diarize.manifest import Session
from diarize.turns import Turn
from diarize.view import write_page

ROOT = Path(__file__).parents[1]
browser = load_script(ROOT / "recipes" / "bench" / "browser.py")

SHOWN = "document.getElementById('session').dataset.ready"
LISTED = "!document.getElementById('index').hidden"
MARKUP = '<img src=x onerror="window.hit=1">\'"&amp;</script>日本'


@pytest.fixture(scope="module")
def tab() -> Iterator[Any]:
    """A browser's tab."""
    binary = browser.find_chromium()
    if binary is None:
        pytest.skip("no Chromium is installed: apt-get install chromium, or name it by CHROMIUM")
    with browser.chromium(binary) as page:
        yield page


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty seconds with one error of each kind, heard, and with posteriors."""
    folder = tmp_path_factory.mktemp("view")
    signal = np.random.default_rng(0).uniform(-0.2, 0.2, 20 * 16000)
    soundfile.write(folder / "talk.wav", signal, 16000)
    rows = np.full((250, 2), 0.25, dtype=np.float32)
    write_posteriors(folder / "talk.npz", Posteriors(rows, 0.08, 0.0, 0.08 * len(rows)))
    reference = [Turn(1.0, 6.0, "anna"), Turn(7.0, 12.0, MARKUP)]
    hypothesis = [Turn(2.0, 6.0, "speaker_0"), Turn(7.0, 11.0, "speaker_1")]
    hypothesis += [Turn(11.0, 12.0, "speaker_0"), Turn(15.0, 16.5, "speaker_1")]
    write_page(
        folder / "talk.html",
        {"talk": hypothesis},
        {"talk": reference},
        recordings={"talk": Session("talk", folder / "talk.wav")},
        posteriors={"talk": folder / "talk.npz"},
    )
    return folder / "talk.html"


@pytest.fixture
def shown(tab: Any, talk: Path) -> Any:
    """The tab with the talk in it, just opened."""
    return opened(tab, talk, SHOWN)


def opened(tab: Any, path: Path, ready: str) -> Any:
    tab.complaints.clear()
    tab.requests.clear()
    tab.open(path, ready)
    settle(tab)
    return tab


def settle(tab: Any) -> None:
    """Let what was asked for be drawn."""
    tab.run("new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))")


def text(tab: Any, name: str) -> str:
    said: str = tab.run(f"document.getElementById('{name}').textContent")
    return said


def window(tab: Any) -> tuple[float, float]:
    """What the timeline shows, seconds."""
    settle(tab)
    data = tab.run("({...document.getElementById('stage').dataset})")
    return float(data["from"]), float(data["to"])


def spot(tab: Any, canvas: str, share: float) -> tuple[float, float]:
    """A place on a canvas, a share of its width from its left."""
    box = tab.run(f"document.getElementById('{canvas}').getBoundingClientRect().toJSON()")
    return box["x"] + share * box["width"], box["y"] + 10


def test_opens_without_a_complaint_and_asks_no_network(shown: Any) -> None:
    assert shown.complaints == []
    assert {address.split(":")[0] for address in shown.requests} <= {"file", "blob"}
    assert text(shown, "title") == "talk"
    assert "condition: full (collar 0 s on each side, overlap scored" in text(shown, "condition")
    assert "35.00 % DER" in text(shown, "numbers")
    assert window(shown) == pytest.approx((0.0, 20.0))


def test_draws_sound_turns_errors_and_posteriors(shown: Any) -> None:
    inked = """((name, x0, x1, y0, y1) => {
      const canvas = document.getElementById(name);
      const [w, h] = [canvas.width, canvas.clientHeight];
      const pen = canvas.getContext("2d");
      const [x, width] = [Math.round(x0 / 20 * w), Math.round((x1 - x0) / 20 * w)];
      const { data } = pen.getImageData(x, y0, width, y1 - y0);
      let strong = 0;
      for (let i = 3; i < data.length; i += 4) strong += data[i];
      return strong / data.length * 4 / 255;
    })"""
    # Below the ruler, the sound; then a row for each kind of error.
    assert shown.run(f"{inked}('top', 13, 14, 40, 80)") > 0.3
    miss, false_alarm = (106, 110), (124, 128)
    assert shown.run(f"{inked}('top', 1.1, 1.9, {miss[0]}, {miss[1] - 3})") < 0.1  # hollow
    assert shown.run(f"{inked}('top', 15.2, 16.3, {false_alarm[0]}, {false_alarm[1]})") > 0.99
    assert shown.run(f"{inked}('top', 13, 14, {false_alarm[0]}, {false_alarm[1]})") < 0.1
    # anna; speaker_0, who begins a second late; his posterior of a quarter throughout.
    assert shown.run(f"{inked}('turns', 1.1, 5.9, 5, 20)") > 0.99
    assert shown.run(f"{inked}('turns', 1.1, 1.9, 31, 45)") < 0.1
    assert shown.run(f"{inked}('turns', 2.1, 5.9, 31, 45)") > 0.99
    assert shown.run(f"{inked}('turns', 13.1, 14.5, 53, 58)") == pytest.approx(0.25, abs=0.03)


def test_errors_are_gone_through_one_by_one(shown: Any) -> None:
    assert text(shown, "place") == "3 errors"
    said = []
    for _ in range(3):
        shown.press("n", "KeyN")
        said.append(text(shown, "said"))
    assert said == [
        "Miss, 0:01.00 to 0:02.00: anna not found.",
        f"Confusion, 0:11.00 to 0:12.00: {MARKUP} speaks, speaker_0 found.",
        "False alarm, 0:15.00 to 0:16.50: speaker_1 found, nobody speaks for it.",
    ]
    assert text(shown, "place") == "3 of 3"
    first, last = window(shown)
    assert first < 14.0 and 16.5 < last < 20.1
    assert text(shown, "clock").startswith("0:14.00 / ")
    shown.press("p", "KeyP")
    assert text(shown, "said").startswith("Confusion")
    assert shown.run("location.hash") == "#1@11.00"


def test_errors_in_order_of_length_and_without_a_kind(shown: Any) -> None:
    shown.run(
        "document.getElementById('order').value = 'length';"
        "document.getElementById('order').dispatchEvent(new Event('change'))"
    )
    shown.run("document.getElementById('next').click()")
    assert text(shown, "said").startswith("False alarm, 0:15.00")
    shown.run("document.querySelectorAll('#heads input')[1].click()")
    assert text(shown, "place") == "2 errors"
    shown.run("document.getElementById('list').open = true")
    shown.wait_for("document.getElementById('spans').rows.length === 2")
    shown.run("document.getElementById('spans').rows[1].click()")
    assert text(shown, "said").startswith("Confusion")


def test_plays_from_a_click_on(shown: Any) -> None:
    shown.click(*spot(shown, "turns", 0.5))
    shown.wait_for("document.getElementById('play').getAttribute('aria-pressed') === 'true'")
    shown.wait_for("Number(document.getElementById('clock').textContent.slice(2, 7)) > 10.2")
    shown.press(" ", "Space")
    shown.wait_for("document.getElementById('play').getAttribute('aria-pressed') === 'false'")
    assert 10.2 < float(text(shown, "clock")[2:7]) < 19.0
    assert shown.complaints == []


def test_zooms_and_scrolls(shown: Any) -> None:
    x, y = spot(shown, "turns", 0.25)
    shown.wheel(x, y, (0, -120), modifiers=2)
    shown.wait_for("Number(document.getElementById('stage').dataset.to) < 19")
    first, last = window(shown)
    # What lies under the pointer stays there.
    assert first + 0.25 * (last - first) == pytest.approx(5.0, abs=0.05)
    shown.wheel(x, y, (150, 0))
    shown.wait_for(f"Number(document.getElementById('stage').dataset.from) > {first} + 0.1")
    assert np.diff(window(shown)) == pytest.approx(last - first)
    shown.press("+", "Equal")
    assert np.diff(window(shown)) == pytest.approx((last - first) / 2)
    shown.press("0", "Digit0")
    assert window(shown) == pytest.approx((0.0, 20.0))


def test_keys_move_the_position(shown: Any) -> None:
    for _ in range(3):
        shown.press("ArrowRight")
    shown.press("ArrowLeft")
    assert text(shown, "clock") == "0:02.00 / 0:20.00"
    shown.press("End")
    assert text(shown, "clock") == "0:20.00 / 0:20.00"


def test_names_are_text_and_nothing_else(shown: Any) -> None:
    names = shown.run("[...document.querySelectorAll('#names li span')].map((e) => e.textContent)")
    assert names == ["anna", "speaker_0", MARKUP, "speaker_1"]
    assert shown.run("document.images.length") == 0 and shown.run("window.hit") is None
    colors = shown.run(
        "[...document.querySelectorAll('#names .dot')].map((e) => e.style.background)"
    )
    assert colors[0] == colors[1] != colors[2] == colors[3]


def test_follows_what_the_system_prefers(shown: Any) -> None:
    back = "getComputedStyle(document.body).backgroundColor"
    shown.dark()
    dark = shown.run(back)
    shown.dark(False)
    assert (dark, shown.run(back)) == ("rgb(20, 24, 31)", "rgb(255, 255, 255)")


def test_every_control_has_a_name(shown: Any) -> None:
    shown.ask("Accessibility.enable")
    nodes = shown.ask("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "combobox", "checkbox", "img", "link", "application", "DisclosureTriangle"}
    found = [n for n in nodes if n.get("role", {}).get("value") in roles and not n["ignored"]]
    assert len(found) >= 14
    assert [n for n in found if not n.get("name", {}).get("value")] == []


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sessions without sound, each worse than the one before."""
    folder = tmp_path_factory.mktemp("many")
    reference = [Turn(0.0, 10.0, "anna")]
    hypotheses = {f"{n}{MARKUP}": [Turn(0.0, 10.0 - n, "x")] for n in range(3)}
    write_page(folder / "many.html", hypotheses, dict.fromkeys(hypotheses, reference))
    return folder / "many.html"


def test_lists_sessions_the_worst_first(tab: Any, many: Path) -> None:
    page = opened(tab, many, LISTED)
    first = "[...document.getElementById('rows').rows].map((r) => r.cells[0].textContent)"
    assert [name[0] for name in page.run(first)] == ["2", "1", "0"]
    assert text(page, "title") == "3 sessions" and "10.00 % DER" in text(page, "numbers")
    page.run("document.querySelector('#columns button').click()")
    assert [name[0] for name in page.run(first)] == ["0", "1", "2"]
    page.run("document.querySelector('#rows tr').click()")
    page.wait_for(SHOWN)
    assert text(page, "title") == f"0{MARKUP}" and "0.00 % DER" in text(page, "numbers")
    assert page.run("document.getElementById('play').disabled")
    page.run("history.back()")
    page.wait_for(LISTED)
    assert page.complaints == [] and page.run("window.hit") is None


def test_an_address_leads_to_a_moment(tab: Any, many: Path) -> None:
    page = opened(tab, many, LISTED)
    page.run("location.hash = '#1@8'")
    page.wait_for(SHOWN)
    assert text(page, "said") == "Miss, 0:08.00 to 0:10.00: anna not found."


def conversation(num_turns: int, name: Callable[[int], str]) -> list[Turn]:
    rng = np.random.default_rng(1)
    starts = np.sort(rng.uniform(0.0, 10_790.0, num_turns))
    return [
        Turn(float(start), float(start + rng.gamma(2.0, 1.2)), name(n))
        for n, start in enumerate(starts)
    ]


def test_five_thousand_turns_are_redrawn_at_once(tab: Any, tmp_path: Path) -> None:
    reference = conversation(5000, lambda n: f"person {n % 6}")
    hypothesis = conversation(5000, lambda n: f"speaker_{n * n % 7}")
    write_page(tmp_path / "long.html", {"long": hypothesis}, {"long": reference})
    page = opened(tab, tmp_path / "long.html", SHOWN)
    times = []
    for key in 2 * ["0", "+", "+", "+", "+", "+"]:
        page.press(key)
        settle(page)
        times.append(float(page.run("document.getElementById('stage').dataset.redraw")))
    assert np.median(times) < 50.0


def test_ten_thousand_speakers_are_scrolled_through(tab: Any, tmp_path: Path) -> None:
    hypothesis = [Turn(float(n), n + 2.0, f"x{n}") for n in range(10_000)]
    write_page(tmp_path / "crowd.html", {"crowd": hypothesis})
    page = opened(tab, tmp_path / "crowd.html", SHOWN)
    height = page.run("document.getElementById('turns').clientHeight")
    assert height < 800 and page.run("document.getElementById('names').children.length") == 10_000
    page.run("document.getElementById('lanes').scrollTop = 1e9")
    settle(page)
    assert page.complaints == []


def test_a_script_that_was_smuggled_in_does_not_run(tab: Any, talk: Path, tmp_path: Path) -> None:
    smuggled = talk.read_text(encoding="utf-8").replace(
        "</body>", "<script>hit = 1</script></body>"
    )
    (tmp_path / "smuggled.html").write_text(smuggled, encoding="utf-8")
    page = opened(tab, tmp_path / "smuggled.html", SHOWN)
    assert page.run("window.hit") is None
    assert "Content Security Policy" in page.complaints[0]
