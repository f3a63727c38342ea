"""Drives Chromium: opens pages, types keys, resizes the window, checks the rules of axe."""

import base64
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.browser import packages
from tests.poll import poll_until

T = TypeVar("T")

SECONDS: Final = 60.0
"""The longest wait for something that the page shows."""
_FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",  # Chromium refuses to start as root with it.
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_AXE: Final = """
const done = arguments[arguments.length - 1];
const texts = (nodes) => nodes.map((node) => node.target + ": " + node.failureSummary);
axe.run(document, {resultTypes: ["violations"]}).then((found) => done(
  found.violations.map((one) => [one.id, one.help, ...texts(one.nodes)])));
"""


class Browser:
    """One window."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, address: str) -> None:
        """Opens an address, and returns when the page is loaded."""
        self.driver.get(address)

    def start(self, address: str) -> None:
        """Opens an address after an empty page. ``errors`` does not return what an earlier page has
        logged, such as the end of its dashboard."""
        self.open("about:blank")
        self.errors()
        self.open(address)

    @property
    def path(self) -> str:
        """Path, query and fragment of the address."""
        return str(self.run("return location.pathname + location.search + location.hash"))

    def run(self, script: str, *arguments: Any) -> Any:
        """Runs a script in the page."""
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str = "body") -> str:
        """Returns what the user reads in the first element of the selector. Empty: no element
        matches."""
        script = "return document.querySelector(arguments[0])?.innerText || ''"
        return str(self.run(script, selector))

    def all(self, selector: str) -> list[WebElement]:
        """Returns the elements that the user can see."""
        found = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return [one for one in found if one.is_displayed()]

    def click(self, selector: str) -> None:
        """Clicks the first visible element of the selector."""

        def clicked() -> bool:
            try:
                for one in self.all(selector):
                    one.click()
                    return True
            except StaleElementReferenceException:
                pass  # The stream has replaced it meanwhile.
            return False

        self.until(clicked, f"{selector} can be clicked")

    def press(self, *keys: str) -> None:
        """Types keys into the focused element."""
        chain = ActionChains(self.driver)
        for key in keys:
            chain.send_keys(key)
        chain.perform()

    def focused(self) -> str:
        """Returns the text or the label of the focused element."""
        script = (
            "const one = document.activeElement; return one.ariaLabel || one.innerText || one.id"
        )
        return str(self.run(script))

    def until(self, condition: Callable[[], T], what: str, seconds: float = SECONDS) -> T:
        """Waits until the condition is true, and returns its value."""
        return poll_until(condition, seconds, what, state=lambda: f"{self.path}\n{self.text()}")

    def until_text(self, expected: str, selector: str = "body", seconds: float = SECONDS) -> None:
        """Waits until the first element of the selector has this text."""
        what = f"{selector} has the text {expected!r}"
        self.until(lambda: expected in self.text(selector), what, seconds)

    def resize(self, width: int, height: int = 900) -> None:
        """Sets the size of the page, which may be smaller than the smallest window."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def colours(self, scheme: str) -> None:
        """Sets the colour scheme that the user prefers: light or dark."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def offline(self, offline: bool) -> None:
        """Cuts or restores the connection between browser and server."""
        self.driver.set_network_conditions(
            offline=offline, latency=0, download_throughput=-1, upload_throughput=-1
        )

    def overflow(self) -> int:
        """Returns by how many pixels the page is wider than the window."""
        script = "const e = document.documentElement; return e.scrollWidth - e.clientWidth"
        return int(self.run(script))

    def violations(self) -> list[list[str]]:
        """Returns the rules of axe that the page violates, each with its elements."""
        self.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": packages.axe()})
        found: list[list[str]] = self.driver.execute_async_script(_AXE)
        return found

    def accessibility_tree(self) -> list[tuple[str, str, int]]:
        """Returns role, name and heading level of what a screen reader finds, in order. Level 0:
        the element is not a heading."""
        nodes = self.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        found = []
        for node in nodes:
            if node.get("ignored"):
                continue
            properties = {one["name"]: one["value"].get("value") for one in node["properties"]}
            name = node.get("name", {}).get("value") or ""
            found.append((node["role"]["value"], name, int(properties.get("level") or 0)))
        return found

    def errors(self) -> list[str]:
        """Returns the errors that the browser has logged since the last call: scripts that failed,
        and what the Content-Security-Policy has blocked."""
        logged = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [one["message"] for one in logged if one["level"] == "SEVERE"]

    def screenshot(self, file: Path) -> None:
        """Writes a picture of the visible part of the page."""
        taken = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        file.write_bytes(base64.b64decode(taken["data"]))


@contextmanager
def browser() -> Iterator[Browser]:
    """Starts a browser with an empty profile, and ends it."""
    with tempfile.TemporaryDirectory(prefix="initpipeline-browser-") as temporary:
        folder, options = Path(temporary), ChromeOptions()
        root = packages.chromium().root
        options.binary_location = str(root / "usr/lib/chromium/chromium")
        for flag in (*_FLAGS, f"--user-data-dir={folder / 'profile'}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = Service(str(root / "usr/bin/chromedriver"), env=packages.environment(folder))
        driver = Chrome(options=options, service=service)
        try:
            driver.set_script_timeout(SECONDS)
            yield Browser(driver)
        finally:
            driver.quit()
