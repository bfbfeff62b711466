import base64
import dataclasses
import io
import itertools
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.image import imread
from packages import needs
from sklearn.datasets import load_digits

from edgeae import TrainConfig, load_data, train
from edgeae.cli.evaluate import report as command
from edgeae.data.dataset import Data
from edgeae.evaluation.evaluate import evaluate_opened
from edgeae.evaluation.ground_truth import Samples
from edgeae.evaluation.subjects import from_source
from edgeae.report.contents import SECTIONS
from edgeae.report.layout import Page, png
from edgeae.report.report import write_report
from edgeae.report.sections.latent import latent_points
from edgeae.report.sections.series import peaks
from edgeae.report.sections.summary import verdicts
from edgeae_export.errors import RunError
from edgeae_runtime import OutputError
from edgeae_runtime.bundle.thresholds import DEFAULT_RULE

TINY = Path(__file__).parents[2] / "runtime" / "tiny.edgeae"
DIGITS = load_digits()
HOSTILE = "</script><img src=x onerror=alert(1)>"
"""A label that would run if the page took it for markup."""
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",  # as on a phone; one that comes and goes would change the width
    "--remote-debugging-pipe",
)
DESKTOP, PHONE = (1200, 900), (390, 844)
DESCRIBE = """(width) => [...document.querySelectorAll('.chart')].map(chart => ({
  name: chart.dataset.chart,
  marks: [...chart.querySelectorAll('path, rect')].filter(m => m.getBoundingClientRect().width > 0).length,
  alt: chart.querySelector('svg').getAttribute('aria-label'),
  outside: [...chart.querySelectorAll('text')].map(text => text.getBoundingClientRect())
    .filter(r => r.left < 0 || r.right > width || r.height < 9).length,
  lost: /NaN|undefined|Infinity/.test(chart.innerHTML),
}))"""


class Browser:
    """Chromium without a window, driven through a pipe: null-terminated messages of its DevTools protocol."""

    def __init__(self, profile):
        program = needs("chromium")
        commands, self._out = os.pipe()
        self._in, answers = os.pipe()
        # it reads from file descriptor 3 and writes to 4; the shell puts the pipes there
        script = f'exec "$@" 3<&{commands} 4>&{answers}'
        arguments = ["bash", "-c", script, "bash", program, *FLAGS, f"--user-data-dir={profile}"]
        self.process = subprocess.Popen(
            arguments, pass_fds=(commands, answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(commands)
        os.close(answers)
        self._buffer, self._numbers, self._session = b"", itertools.count(1), {}
        self.events = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def _receive(self):
        while b"\0" not in self._buffer:
            piece = os.read(self._in, 1 << 16)
            assert piece, "chromium ended"
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def call(self, method, **params):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params, **self._session}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path, size, *, dark=False):
        self.events.clear()
        width, height = size
        is_phone = width < 500
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=path.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())
        self.settle()

    def settle(self):
        """Wait until all that is due for the next two frames was drawn."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def run(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def mouse(self, kind, x, y, **more):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def pixels(self, selector):
        """The pixels of an element, (height, width, 3 or 4), and its corner on the page."""
        self.run(f"document.querySelector('{selector}').scrollIntoView({{block: 'center'}})")
        self.settle()
        box = self.run(
            "(r => [r.x, r.y, r.width, r.height])"
            f"(document.querySelector('{selector}').getBoundingClientRect())"
        )
        scroll = self.run("scrollY")
        clip = {"x": box[0], "y": box[1] + scroll, "width": box[2], "height": box[3], "scale": 1}
        shot = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        return imread(io.BytesIO(base64.b64decode(shot["data"])))[..., :3], box

    def problems(self):
        """Everything that went wrong on the page or was asked of a network."""
        bad = (
            "Runtime.exceptionThrown",
            "Runtime.consoleAPICalled",
            "Log.entryAdded",
            "Network.loadingFailed",
        )
        wrong = [event for event in self.events if event.get("method") in bad]
        asked = [
            event["params"]["request"]["url"] for event in self.events if "request" in event.get("params", {})
        ]
        return wrong + [url for url in asked if not url.startswith(("file:", "data:"))]

    def close(self):
        os.close(self._out)  # it ends when nobody can tell it anything any more
        os.close(self._in)
        self.process.wait(30)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def pages(trained, cells, tmp_path_factory):
    """Reports of a run on images with labels, on windows with failures, and on a table with nothing else."""
    folder = tmp_path_factory.mktemp("pages")
    trained.save(folder / "digits.run")
    np.save(folder / "x.npy", DIGITS.images[:600].astype(np.float32))
    names = np.array(["zero", HOSTILE, *"23456789"])
    np.save(folder / "y.npy", names[DIGITS.target[:600]])
    settings = {"labels": folder / "y.npy", "normal": "zero", "bundle": TINY}
    write_report(folder / "digits.run", folder / "images.html", data=folder / "x.npy", **settings)

    times = np.datetime64("2024-03-01T00:00", "s") + np.arange(900) * np.timedelta64(300, "s")
    values = 60 + 10 * np.sin(np.arange(900) / 9) + np.random.default_rng(0).normal(0, 0.3, 900)
    for name, part in (("first", slice(0, 500)), ("rest", slice(500, 900))):
        shifted = values + np.where((np.arange(900) > 700) & (np.arange(900) < 740), 30, 0)
        lines = [f"{t},{v:.4f}\n" for t, v in zip(times[part], shifted[part], strict=True)]
        (folder / f"{name}.csv").write_text("time,temperature\n" + "".join(lines))
    (folder / "failures.json").write_text(json.dumps([[str(times[701]), str(times[739])]]))
    config = TrainConfig(hidden=(16,), latent=3, epochs=15, batch_size=32)
    train(load_data(str(folder / "first.csv"), window=24), config).save(folder / "pump.run")
    settings = {"labels": folder / "failures.json", "fit_data": folder / "first.csv"}
    write_report(folder / "pump.run", folder / "series.html", data=folder / "rest.csv", **settings)

    config = TrainConfig(hidden=(16,), latent=1, epochs=3, batch_size=32, scaler="standard")
    train(cells, config).save(folder / "cells.run")
    write_report(folder / "cells.run", folder / "table.html")
    return {name: folder / f"{name}.html" for name in ("images", "series", "table")} | {"folder": folder}


NAMES = ("images", "series", "table")


class Elements(HTMLParser):
    """Collects start tags with their attributes, and the text of each heading."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.headings, self._open = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._open = tag == "h2"

    def handle_data(self, data):
        if self._open:
            self.headings.append(data)
            self._open = False


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_one_small_file_that_names_no_other(pages, name):
    text = pages[name].read_text(encoding="utf-8")
    assert len(text) < 1_500_000
    assert set(re.findall(r"https?://[^\s\"'<)]+", text)) == {"http://www.w3.org/2000/svg"}
    elements = Elements(text)
    for _, attributes in elements.tags:
        for link in (attributes.get("src"), attributes.get("href")):
            assert link is None or link.startswith("data:")
    assert all(attributes.get("alt") for tag, attributes in elements.tags if tag == "img")
    assert "{{" not in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("images", ["Originals over reconstructions", "What the code is good for", "Anomaly detection"]),
        ("images", ["Does the exported bundle say the same?"]),
        (
            "series",
            ["Error over time", "Windows and their reconstructions", "Alarms in each labelled episode"],
        ),
        ("table", ["What is reconstructed worst"]),
    ],
)
def test_a_page_has_the_sections_that_its_data_allow(pages, name, expected):
    headings = Elements(pages[name].read_text(encoding="utf-8")).headings
    always = ["Did it learn?", "Loss", "Latent space", "How the error is distributed", "What noise does"]
    assert {*always, "Reconstruction error", *expected} <= set(headings)
    assert ("Anomaly detection" in headings) == (name != "table")


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("name", NAMES)
def test_a_page_opens_without_a_complaint_and_draws_everything(browser, pages, name, size, dark):
    browser.open(pages[name], size, dark=dark)
    assert browser.problems() == []
    assert browser.run("document.documentElement.scrollWidth") == size[0]
    charts = browser.run(f"({DESCRIBE})({size[0]})")
    assert len(charts) >= 5
    for chart in charts:
        assert chart["marks"] > 0 and chart["alt"] and not chart["lost"] and not chart["outside"], chart
    picture, _ = browser.pixels("canvas")
    background = picture[2, 2]
    assert np.mean(background) < 0.3 if dark else np.mean(background) > 0.9
    inked = np.mean(np.abs(picture - background).max(axis=-1) > 0.1)
    assert 0.003 < inked < 0.8
    images = browser.run("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert images


@pytest.mark.slow
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_latent_space_turns_zooms_and_tells_rows(browser, pages, size):
    browser.open(pages["images"], size)
    before, (x, y, width, height) = browser.pixels("canvas")
    middle = x + width / 2, y + height / 2
    browser.mouse("mousePressed", *middle, button="left", clickCount=1)
    browser.mouse("mouseMoved", middle[0] + 60, middle[1], button="left", buttons=1)
    browser.mouse("mouseReleased", middle[0] + 60, middle[1], button="left")
    turned, _ = browser.pixels("canvas")
    assert not np.array_equal(before, turned)
    browser.run("document.querySelector('[data-act=in]').click()")
    zoomed, _ = browser.pixels("canvas")
    assert not np.array_equal(turned, zoomed)
    browser.run("document.querySelector('[data-act=reset]').click()")
    browser.mouse("mouseMoved", 1, 1)
    reset, _ = browser.pixels("canvas")
    np.testing.assert_array_equal(reset, before)
    browser.run("document.querySelector('[data-act=\"2d\"]').click()")
    flat, _ = browser.pixels("canvas")
    assert not np.array_equal(before, flat)
    assert browser.run("document.querySelector('[data-act=\"2d\"]').getAttribute('aria-pressed')") == "true"
    found = None
    for dx, dy in itertools.product(range(-60, 61, 20), repeat=2):
        browser.mouse("mouseMoved", middle[0] + dx, middle[1] + dy)
        found = found or browser.run(
            "(t => t.hidden ? null : t.textContent)(document.querySelector('.latent .tip'))"
        )
    assert re.fullmatch(r"row \d+, .+error [\d.e-]+", found)
    assert browser.problems() == []


@pytest.mark.slow
def test_a_class_is_shown_alone_and_a_label_is_text_and_never_markup(browser, pages):
    browser.open(pages["images"], DESKTOP)
    keys = browser.run("[...document.querySelectorAll('.latent .keys button')].map(b => b.textContent)")
    assert keys == ["normal", "anomalous"]
    text = pages["images"].read_text(encoding="utf-8")
    assert HOSTILE not in text
    all_of_them, _ = browser.pixels("canvas")
    browser.run("document.querySelector('.latent .keys button').click()")
    one, _ = browser.pixels("canvas")
    assert np.sum(one != one[2, 2]) < np.sum(all_of_them != all_of_them[2, 2])


@pytest.mark.slow
def test_a_chart_tells_its_values_under_the_pointer(browser, pages):
    browser.open(pages["series"], DESKTOP)
    _, (x, y, width, height) = browser.pixels("[data-chart=loss] svg")
    browser.mouse("mouseMoved", x + width - 14, y + height / 2)
    text = browser.run("document.querySelector('[data-chart=loss] .tip').textContent")
    assert re.fullmatch(r"epoch 15training: [\d.e-]+validation: [\d.e-]+", text)


@pytest.mark.slow
def test_failures_are_shaded_where_they_were(browser, pages):
    browser.open(pages["series"], DESKTOP)
    left, right, start, end = browser.run(
        "(c => { const r = c.querySelector('rect').getBoundingClientRect(), p = c.querySelector('path')"
        ".getBoundingClientRect(); return [r.left, r.right, p.left, p.right]; })"
        "(document.querySelector('[data-chart=series]'))"
    )
    # windows end at readings 523 to 899; the failure lasts from 701 to 739
    assert (left - start) / (end - start) == pytest.approx((701 - 523) / (899 - 523), abs=0.01)
    assert (right - start) / (end - start) == pytest.approx((739 - 523) / (899 - 523), abs=0.01)


# --- what goes into it ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(trained):
    samples = Samples(DIGITS.images[:300].astype(np.float32), labels=DIGITS.target[:300])
    opened = from_source(trained.source, DEFAULT_RULE)
    found = evaluate_opened(opened, samples, None, normal=None, rule=DEFAULT_RULE, noise=("gaussian",))
    return Page("digits.run", "digits", found, {"loss": [1.0], "val_loss": [1.0]}, {}, None)


def test_the_latent_space_keeps_the_distances_of_the_first_components(page):
    found = latent_points(page)
    codes = page.measured.codes.astype(np.float64)
    _, _, directions = np.linalg.svd(codes - codes.mean(axis=0), full_matrices=False)
    expected = (codes - codes.mean(axis=0)) @ directions[:3].T
    points = np.array(found["points"])
    scale = np.linalg.norm(expected) / np.linalg.norm(points)
    ours = np.linalg.norm(points[:, np.newaxis] - points, axis=-1) * scale
    theirs = np.linalg.norm(expected[found["rows"]][:, np.newaxis] - expected[found["rows"]], axis=-1)
    np.testing.assert_allclose(ours, theirs, atol=0.003 * scale)
    assert [found["names"][g] for g in found["groups"]] == [str(t) for t in DIGITS.target[:300]]
    sprite = found["sprite"]
    sheet = imread(io.BytesIO(base64.b64decode(sprite["src"].split(",")[1])))
    row, column = divmod(17, sprite["columns"])
    cell = sheet[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]
    np.testing.assert_allclose(cell, DIGITS.images[17] / 16, atol=1 / 255)


def test_an_image_survives_its_way_into_the_page():
    image = np.linspace(-1, 3, 24).reshape(4, 6)
    pixels = imread(io.BytesIO(base64.b64decode(png(image, -1, 3).split(",")[1])))
    np.testing.assert_allclose(pixels, (image + 1) / 4, atol=1 / 255)
    np.testing.assert_array_equal(png(image[..., np.newaxis], -1, 3), png(image, -1, 3))
    colours = np.random.default_rng(0).uniform(0, 255, (4, 6, 3))
    pixels = imread(io.BytesIO(base64.b64decode(png(colours, 0, 255).split(",")[1])))
    np.testing.assert_allclose(pixels[..., :3], colours / 255, atol=1 / 255)


def test_a_long_series_keeps_itspeaks():
    errors = np.random.default_rng(0).exponential(size=23_456)
    kept = peaks(errors)
    assert len(kept) <= 2500 and np.all(np.diff(kept) > 0)
    assert set(np.argsort(errors)[-20:]) <= set(kept)


def test_the_verdict_says_what_the_curves_say(page):
    def said(loss, val_loss):
        return verdicts(dataclasses.replace(page, history={"loss": loss, "val_loss": val_loss}))

    lines = said([1.0, 0.5, 0.2], [1.0, 0.5, 0.6])
    curves = page.outcome.evaluation.robustness
    better = curves[0].mse[0] < curves[1].mse[0]
    assert ("is not below that of PCA-8" in lines[0]) == (not better)
    assert lines[1].startswith("It removes noise: at 0.5")
    assert len(lines) == 2
    linear = dataclasses.replace(page, config={"arch": "linear"})
    assert ("the best code of its kind" in verdicts(linear)[0]) == (not better)
    assert "by heart" in said([0.5, 0.1], [0.5, 0.4])[-1]
    assert "more epochs may still help" in said([2.0, 1.0], [2.0, 1.1])[-1]


@pytest.mark.slow
def test_the_command_writes_the_page_and_refuses_to_overwrite(pages, tmp_path):
    run, out = str(pages["folder"] / "cells.run"), str(tmp_path / "r.html")
    done = CliRunner().invoke(command, [run, "--out", out], catch_exceptions=False)
    assert done.exit_code == 0 and "open it in any browser" in done.output
    with pytest.raises(OutputError, match=r"r\.html: exists already"):
        CliRunner().invoke(command, [run, "--out", out], catch_exceptions=False)


@pytest.mark.slow
def test_ten_thousand_images_take_less_than_fifteen_seconds_of_cpu(tmp_path):
    """Of 28x28 with ten classes, the most that a report does; TensorFlow's import is a third of it."""
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, len(DIGITS.images), 10_000)
    images = np.kron(DIGITS.images, np.ones((4, 4)))[chosen, 2:-2, 2:-2] + rng.normal(0, 1, (10_000, 28, 28))
    np.save(tmp_path / "x.npy", np.float32(images))
    np.save(tmp_path / "y.npy", DIGITS.target[chosen])
    config = TrainConfig(hidden=(32,), latent=16, epochs=1)
    train(Data(np.float32(images[:1000]), None), config).save(tmp_path / "x.run")
    before = os.times()
    words = ["report", "x.run", "--data", "x.npy", "--labels", "y.npy", "--normal", "0", "--out", "x.html"]
    edgeae = Path(sys.executable).with_name("edgeae")
    done = subprocess.run([edgeae, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent < 15
    assert done.stderr == "" and done.stdout.count("\n") == 1


def test_the_sections_are_those_of_the_documents():
    text = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"\| section .*\n\| -.*\n((?:\|.*\n)+)", text)
    assert [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()] == list(SECTIONS)


def test_a_bundle_is_no_run(tmp_path):
    with pytest.raises(RunError, match=r"not a run folder \(run\.json is missing\)"):
        write_report(TINY, tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []
