"""Opens relc's pages in headless Chromium: every control works, nothing is asked of a network, axe finds no violation.

    python tools/pages_test.py RELC OUT_DIR [PAGE_OF_A_LARGE_MODEL.html..]

Makes pages of the demo, of a model and labels with hostile names, of a signal, of an evaluation and of the compiler; leaves
them and their screenshots (light, dark, of a phone) in OUT_DIR. Pages that are given besides have to open in a second.
Needs numpy, onnx, playwright, axe-playwright-python, and Chromium (CHROMIUM says where, if it is not /usr/bin/chromium).
"""

import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import onnx
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
OPTIONS += ["--disable-background-networking", "--disable-component-update"]
DEMO = pathlib.Path("examples/demo")
PICTURES = [DEMO / "images" / name for name in ["00_disc.png", "01_square.png"]]
PREPROCESS = ["--preprocess", str(DEMO / "preprocess.toml")]
READY = "document.getElementById('main').dataset.ready !== undefined"
HOSTILE = "<script>window.broken = 1</script><img src=x onerror='window.broken = 2'>\"'&"
LONG = "x" * 10_000


def relc(*arguments, **options):
    command = [sys.argv[1], *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def hostile_model(out):
    """The demo with names that would be elements, attributes or entities, and one as long as a page."""
    model = onnx.load(DEMO / "model.onnx")
    for place, node in enumerate(model.graph.node):
        node.name = f"{LONG}{place}" if place == 0 else f"{HOSTILE}{place}"
    path = out / "hostile.onnx"
    onnx.save(model, path)
    labels = out / "hostile.txt"
    labels.write_text("\n".join(f"{HOSTILE}{place}" for place in range(8)))
    return path, labels


class Browser:
    def __init__(self, playwright, out):
        path = os.environ.get("CHROMIUM", "/usr/bin/chromium")
        self.browser = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        self.out = out

    def open(self, file, **context):
        """The page of a file, once it is ready; it may neither fail nor ask for anything but itself."""
        page = self.browser.new_context(**{"viewport": {"width": 1280, "height": 1000}, **context}).new_page()
        page.set_default_timeout(20_000)
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda said: said.type in ("error", "warning") and page.problems.append(said.text))
        own = file.resolve().as_uri()
        page.on("request", lambda request: request.url.startswith(("data:", own)) or page.problems.append(request.url))
        page.goto(own)
        page.wait_for_function(READY)
        return page

    def look(self, name, file):
        """Screenshots, axe, and a phone's width; then the page itself."""
        for scheme in ["light", "dark"]:
            page = self.open(file, color_scheme=scheme, bypass_csp=True)
            page.screenshot(path=self.out / f"{name}.{scheme}.png", full_page=True)
            found = Axe().run(page).response["violations"]
            assert not found, (name, scheme, [(v["id"], v["nodes"][0]["html"][:300]) for v in found])
            self.close(page)
        page = self.open(file, viewport={"width": 360, "height": 800})
        page.screenshot(path=self.out / f"{name}.phone.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, name
        page.emulate_media(media="print")
        assert len(page.pdf()) > 10_000, name
        self.close(page)
        return self.open(file)

    def close(self, page):
        assert page.evaluate("window.broken") is None, "a name became a script"
        assert not page.problems, page.problems
        page.context.close()


def pixels(page, canvas):
    return page.evaluate("id => document.getElementById(id).toDataURL()", canvas)


def explanation(browser, out):
    file, maps = out / "explanation.html", out / "maps.npy"
    relc("explain", DEMO / "model.onnx", *PICTURES, *PREPROCESS, "--labels", DEMO / "labels.txt", "--target", "top3",
         "--report", file, "--map-npy", maps)
    assert file.stat().st_size < 3 << 20, file.stat().st_size
    page = browser.look("explanation", file)
    maps = np.load(maps)  # f32[3,2,64,64]

    # The value under the pointer is the map's.
    def value(row, column):
        frame = page.locator("#map-frame")
        box = frame.bounding_box()
        frame.hover(position={"x": (column + 0.5) * box["width"] / 64, "y": (row + 0.5) * box["height"] / 64})
        said = page.inner_text("#value")
        assert said.startswith(f"row {row}, column {column}: "), said
        return float(said.rsplit(" ", 1)[1])

    for target, sample in [(0, 0), (2, 0), (1, 1)]:
        page.select_option("#input", str(sample))
        page.select_option("#target", str(target))
        expected = maps[target, sample]
        for row, column in [(30, 31), (0, 0), (63, 5)]:
            error = abs(value(row, column) - expected[row, column])
            assert error < 1e-3 * abs(expected).max(), (target, sample, row, column, error)
    # Arrow keys read it too.
    page.focus("#map-frame")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#value").startswith("row 63, column 6: ")
    # What is above zero, and the opacity, change the pictures.
    signed, over = pixels(page, "map"), pixels(page, "overlay")
    page.check("input[name=sign][value='1']")
    assert pixels(page, "map") != signed
    page.check("input[name=sign][value='0']")
    assert pixels(page, "map") == signed
    page.fill("#opacity", "20")
    assert pixels(page, "overlay") != over
    # The targets' buttons choose.
    page.locator("#targets button").nth(2).click()
    assert page.input_value("#target") == "2"
    assert page.locator("#targets button").nth(2).get_attribute("aria-pressed") == "true"
    assert page.locator("#stages figure").count() >= 4
    # A node, by the pointer and by the keyboard: its rule, its line of the preset, its ledger.
    page.select_option("#input", "0")
    page.locator(".node.join").first.click()
    said = page.inner_text("#node")
    assert "split(policy=ratio)" in said and "preset conserve, split" in said and "% of what arrived" in said, said
    page.keyboard.press("ArrowDown")
    assert page.locator(".node[aria-pressed=true]").count() == 1
    assert page.inner_text("#node") != said and "relu" in page.inner_text("#node")
    # Edges are as wide as what they carry: the two into a join are together what comes out of it.
    widths = page.evaluate("""[...document.querySelectorAll('.edge')].map(edge => parseFloat(edge.style.strokeWidth))""")
    assert max(widths) == 18 and min(widths) >= 1 and len(set(widths)) > 5, widths
    # The ledger sorts.
    def first():
        return page.locator("#ledger tbody tr td").first.inner_text()

    page.locator("#ledger th button", has_text="Order").click()
    page.locator("#ledger th button", has_text="Order").click()
    assert page.locator("#ledger th[aria-sort=ascending]").inner_text().startswith("Order") and first() == "/fc/Gemm"
    page.locator("#ledger th button", has_text="Node").click()
    assert first() == "/avgpool/GlobalAveragePool", first()
    # What docs/images/page.png shows.
    page.select_option("#target", "0")
    page.fill("#opacity", "90")
    page.evaluate("""for (const id of ['h-prediction', 'h-stages', 'h-ledger', 'h-run'])
        document.getElementById(id).closest('section').hidden = true""")
    page.locator(".node.join").first.click()
    page.mouse.move(0, 0)
    page.set_viewport_size({"width": 1100, "height": 900})
    page.screenshot(path=out / "page.png", full_page=True)
    browser.close(page)


def hostile(browser, out):
    model, labels = hostile_model(out)
    file, dump = out / "hostile.html", out / "hostile-compiler.html"
    relc("explain", model, PICTURES[0], *PREPROCESS, "--labels", labels, "--report", file)
    page = browser.look("hostile", file)
    assert HOSTILE in page.inner_text("h1")
    page.locator(".node").nth(1).click()
    assert len(page.inner_text("#node")) > 10_000
    page.locator(".node").nth(3).click()
    assert HOSTILE in page.inner_text("#node")
    browser.close(page)
    dump.write_text(relc("dump", model, "--format", "html", "--no-profile"))
    browser.close(browser.look("hostile-compiler", dump))


def signal(browser, out):
    file = out / "signal.html"
    relc("explain", "examples/signal/model.onnx", "examples/signal/wide.csv", "--report", file)
    page = browser.look("signal", file)
    assert page.locator("#drawing img").is_visible()
    browser.close(page)


def method(browser, out):
    file = out / "method.html"
    relc("explain", DEMO / "model.onnx", PICTURES[0], *PREPROCESS, "--method", "grad_cam", "--report", file)
    page = browser.look("method", file)
    assert "grad_cam passes no relevance" in page.inner_text("#no-network")
    browser.close(page)


def evaluation(browser, out):
    file = out / "evaluation.html"
    results = out / "results.jsonl"
    results.unlink(missing_ok=True)
    relc("eval", DEMO / "model.onnx", DEMO / "images", *PREPROCESS, "--methods", "two_level,conserve,grad_cam", "--baseline",
         "grad_cam", "--masks", DEMO / "masks", "--metrics", "id,pointing_game", "--results", results, "--report", file)
    page = browser.look("evaluation", file)
    exercise(page)
    browser.close(page)


def compiler(browser, out):
    file = out / "compiler.html"
    file.write_text(relc("dump", DEMO / "model.onnx", "--format", "html"))
    page = browser.look("compiler", file)
    exercise(page)
    browser.close(page)


def exercise(page):
    """Uses every control once: each changes something that can be seen, and none fails."""
    for sort in page.locator("table.sortable th button").all():
        sort.click()
        head = sort.locator("xpath=..")
        assert head.get_attribute("aria-sort") in ("ascending", "descending"), head.inner_text()
    def seen():
        return page.evaluate("document.getElementById('main').innerHTML")

    for box in page.locator("main input[type=checkbox]").all():
        before = seen()
        box.click()
        assert seen() != before, box.evaluate("e => e.outerHTML")
        box.click()
    for choice in page.locator("main select").all():
        values = choice.evaluate("select => [...select.options].map(option => option.value)")
        for value in values[1:] + values[:1]:
            before = seen()
            now = choice.input_value()
            choice.select_option(value)
            assert value == now or seen() != before, (choice.get_attribute("id"), value)
    for node in page.locator(".node").all()[:3]:
        node.click()
        assert node.get_attribute("aria-pressed") == "true"


def main():
    out = pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = Browser(playwright, out)
        for test in [explanation, hostile, signal, method, evaluation, compiler]:
            begin = time.monotonic()
            print(test.__name__, end=": ", flush=True)
            test(browser, out)
            print(f"{time.monotonic() - begin:.1f} s", flush=True)
        for large in map(pathlib.Path, sys.argv[3:]):
            begin = time.monotonic()
            page = browser.open(large)
            seconds = time.monotonic() - begin
            browser.close(page)
            megabytes = large.stat().st_size / 2**20
            print(f"{large.name}: {megabytes:.1f} MiB, open after {seconds:.2f} s", flush=True)
            assert seconds < 1 and megabytes < 10, large


main()
