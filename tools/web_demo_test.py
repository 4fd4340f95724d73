"""Opens the page of tools/web-demo.sh in headless Chromium, and holds what it explains against the command's maps.

    python tools/web_demo_test.py PAGE_DIR MAPS_DIR
"""

import functools
import http.server
import pathlib
import sys
import threading

import numpy as np
from playwright.sync_api import sync_playwright

OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
OPTIONS += ["--disable-background-networking", "--disable-component-update"]


class Server(http.server.SimpleHTTPRequestHandler):
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {".wasm": "application/wasm"}

    def log_message(self, *_):
        pass


def main() -> None:
    page_dir, maps = map(pathlib.Path, sys.argv[1:])
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Server, directory=page_dir)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=OPTIONS)
        page = browser.new_page(viewport={"width": 900, "height": 900})
        errors, asked = [], []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: message.type == "error" and errors.append(message.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.wait_for_function("window.explained", timeout=60_000)
        print(page.inner_text("#state"))
        pictures = page.locator("#pictures button")
        assert pictures.count() == 16, pictures.count()
        for number in range(pictures.count()):
            page.evaluate("window.explained = null")
            pictures.nth(number).click()
            page.wait_for_function("window.explained", timeout=60_000)
            got = page.evaluate("window.explained")
            name = pictures.nth(number).locator("img").get_attribute("alt")
            assert name.endswith(got["label"]), (name, got["label"])
            expected = np.load(maps / f"{name}.npy").ravel()
            error = np.abs(np.array(got["map"]) - expected).max() / np.abs(expected).max()
            assert error < 1e-4, (name, error)
            # Relevance is conserved: all of the logit arrives at the pixels.
            assert abs(got["sum"] - got["logit"]) < 1e-4 * abs(got["logit"]), (name, got["sum"], got["logit"])
        print(page.inner_text("#sums"))
        page.evaluate("window.explained = null")
        page.select_option("#target", label="ring")
        page.wait_for_function("window.explained && window.explained.label === 'ring'", timeout=60_000)
        page.screenshot(path=maps / "page.png", full_page=True)
        page.set_input_files("#own", page_dir / "app.js")
        page.wait_for_function("document.getElementById('state').textContent.includes('did not work')")
        assert not errors, errors
        assert all(url.startswith((address, "blob:", "data:")) for url in asked), asked
        browser.close()
    print(f"16 pictures: labels as named, maps as the command's; screenshot: {maps / 'page.png'}")


main()
