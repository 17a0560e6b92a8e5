"""A real Chromium, and pages of it that go nowhere but to the dashboard and complain of nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Playwright,
    Request,
    expect,
)

from controller.access.tokens import Secret
from tests.browser.dashboard import Dashboard

CHROMIUM: Final = Path("/usr/bin/chromium")
_OPTIONS: Final = (
    "--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
TIMEOUT_MS: Final = 60_000
"""Only so that nothing hangs for ever: the machine may be busy with many tests at once."""
Scheme = Literal["light", "dark"]
SCHEMES: Final[tuple[Scheme, ...]] = ("light", "dark")


def launch(playwright: Playwright) -> Browser:
    """Start the browser."""
    expect.set_options(timeout=TIMEOUT_MS)
    return playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(_OPTIONS))


class Complaints:
    """What a browser has complained of: errors of scripts, of the policy, and requests to others.

    Attributes:
        expected: parts of texts that a test provokes.
    """

    def __init__(self, url: str) -> None:
        self._own = urlsplit(url).netloc
        self.found: list[str] = []
        self.expected: list[str] = []

    def watch(self, context: BrowserContext) -> None:
        """Note what a context complains of from now on."""
        context.on("request", self._requested)
        context.on("console", self._told)
        context.on("weberror", lambda error: self.found.append(f"error: {error.error}"))

    def _requested(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "about") and parts.netloc != self._own:
            self.found.append(f"a request to another server: {request.url}")

    def _told(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.found.append(f"{message.type}: {message.text}")

    def unexpected(self) -> list[str]:
        """Everything that no test has provoked."""
        return [text for text in self.found if not any(part in text for part in self.expected)]


class Chrome:
    """Opens pages of a dashboard.

    Attributes:
        complaints: of all pages since they were last forgotten.
    """

    def __init__(self, browser: Browser, dashboard: Dashboard) -> None:
        self.dashboard = dashboard
        self.complaints = Complaints(dashboard.url)
        self._browser = browser

    @contextmanager
    def page(
        self,
        secret: Secret | None,
        *,
        scheme: Scheme = "light",
        width: int = 1280,
        height: int = 900,
        scripts: bool = True,
        downloads: bool = False,
    ) -> Iterator[Page]:
        """A page with a session of this token; None: nobody is logged in."""
        context = self._browser.new_context(
            base_url=self.dashboard.url,
            color_scheme=scheme,
            viewport={"width": width, "height": height},
            java_script_enabled=scripts,
            accept_downloads=downloads,
            locale="en-GB",
            timezone_id="Europe/Berlin",
            reduced_motion="reduce",
        )
        context.set_default_timeout(TIMEOUT_MS)
        self.complaints.watch(context)
        if secret is not None:
            name, value = self.dashboard.cookie(secret)
            context.add_cookies([{"name": name, "value": value, "url": self.dashboard.url}])
        try:
            yield context.new_page()
        finally:
            context.close()
