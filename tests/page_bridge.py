"""A widget on a page of a real browser, with the real Python behind it and no Jupyter in between."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile as sf

from audiotk.doctor import find_chromium
from audiotk.errors import AudiotkError
from audiotk.store import open_store
from audiotk.widgets.base import AudioWidget

ADDRESS = "http://widget.test/"
EVIL = "<img src=x onerror=alert(1)>"
PAGE = """<!doctype html><meta charset="utf-8"><style id="css"></style><body style="margin:0"><div id="place"></div>
<script type="module">
const hearers = {};
const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const [traits, esm, css] = GIVEN;
window.down = false;
const model = {
  get: (name) => traits[name], set() {}, save_changes() {},
  on: (name, f) => (hearers[name] ??= []).push(f),
  off: (name, f) => { hearers[name] = hearers[name].filter((g) => g !== f); },
  send: (message) => window.down ? undefined : window.kernel(message).then((answers) => {
    if (window.down) return;
    for (const [content, buffers] of answers) for (const f of hearers["msg:custom"]) f(content, buffers.map(bytes));
  }),
};
const { default: widget } = await import(URL.createObjectURL(new Blob([esm], { type: "text/javascript" })));
document.getElementById("css").textContent = css;
window.close_widget = widget.render({ model, el: document.getElementById("place") });
</script>"""


class Screen:
    """A page that shows a widget; `root` is what the widget draws, `messages` is what the page sent.

    In the page, ``window.down = true`` cuts the line to the kernel and ``window.close_widget()`` ends the view.
    """

    def __init__(self, page: Any, widget: AudioWidget, ready: str | None = "true") -> None:
        self.page, self.widget, self.messages, self._answers = page, widget, list[Any](), list[Any]()
        widget.send = lambda content, buffers=None: self._answers.append((content, buffers or []))  # type: ignore[method-assign]
        for path in widget.paths.values():
            with suppress(AudiotkError):  # the page has no trait to tell it when a recording was read to its end
                widget.shelf.get(path).wait(timeout_s=60)
        page.expose_function("kernel", self.kernel)
        traits = {name: value for name, value in widget.get_state().items() if not name.startswith("_")}
        text = PAGE.replace("GIVEN", json.dumps([traits, widget._esm, widget._css]).replace("</", "<\\/"))
        page.route(ADDRESS, lambda route: route.fulfill(body=text, content_type="text/html"))
        self.open(ready)

    def open(self, ready: str | None = "true") -> None:
        """Load the page, again if it is there; wait for its ``data-ready`` unless `ready` is None."""
        self.page.goto(ADDRESS)
        self.root = self.page.get_by_test_id(self.widget.name)
        self.root.wait_for()
        if ready is not None:
            self.expect(ready=ready)

    def kernel(self, message: Any) -> Any:
        """What the page's ``model.send`` comes to: the answers, buffers as base64."""
        self.messages.append(message)
        self.widget.receive(message)
        self.widget.drain()
        told, self._answers = self._answers, []
        return [(content, [base64.b64encode(bytes(part)).decode() for part in parts]) for content, parts in told]

    def expect(self, **data: str) -> None:
        """Wait for ``data-NAME`` attributes of the root."""
        from playwright.sync_api import expect

        for name, value in data.items():
            expect(self.root).to_have_attribute(f"data-{name}", value)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)


def bark(seconds: float, sr: int = 16000) -> np.ndarray:
    """Something to look at: a falling tone every second over noise."""
    time = np.arange(int(seconds * sr)) / sr
    beat = time % 1
    noise = np.random.default_rng(0).standard_normal(len(time))
    return (0.4 * np.exp(-9 * beat) * np.sin(2 * np.pi * 900 * beat * (1 - 0.4 * beat)) + 0.004 * noise).astype(
        "float32"
    )


def write_sounds(folder: Path) -> pd.DataFrame:
    """Recordings r0 to r5 of a minute in groups of their own: r1 has an evil title, r4 no sound, r5 a broken file."""
    rows = []
    for k in range(6):
        path = folder / f"{k}.wav"
        sf.write(path, bark(60), 16000)
        rows.append({"recording": f"r{k}", "path": str(path), "duration_s": 60.0, "sr": 16000, "group": f"g{k}"})
    rows[4]["path"] = ""
    Path(str(rows[5]["path"])).write_bytes(b"no sound at all")
    return pd.DataFrame(rows).assign(title=["one.wav", EVIL, "three.wav", "four.wav", "five.wav", "six.wav"])


def kept(path: Path) -> list[tuple[str, str, float]]:
    """The judgements that a store holds: segment, class, value (NaN as -1)."""
    with open_store(path, create=False) as store:
        table = store.judgements().fillna({"value": -1.0})
    return [(row["segment"], row["class_name"], row["value"]) for row in table.to_dict("records")]


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser in which sound needs a gesture, as everywhere."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--autoplay-policy=user-gesture-required"]
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=flags)
        yield browser
        browser.close()


@contextmanager
def screens(browser: Any) -> Iterator[Callable[..., Screen]]:
    """Opens widgets in a fresh profile each; ends with the demand that nothing went wrong and nothing was fetched."""
    troubles: list[str] = []
    contexts = []

    def make(widget: AudioWidget, scheme: str = "light", width: int = 1100, ready: str | None = "true") -> Screen:
        contexts.append(browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 760}))
        page = contexts[-1].new_page()
        page.on("request", lambda r: None if r.url.startswith((ADDRESS, "blob:")) else troubles.append(r.url))
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: (troubles.append("dialog"), dialog.dismiss()))
        return Screen(page, widget, ready)

    yield make
    for context in contexts:
        context.close()
    assert not troubles, troubles  # a module that pytest does not rewrite shows nothing by itself
