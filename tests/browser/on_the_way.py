"""What a person meets between the pages, for pictures: login, problems, what was done, a dialog, a wait."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from playwright.sync_api import Page, Route, expect

from contract.runtime.startup import UnavailableError
from controller.access.tokens import Secret
from controller.process.controller import listen
from controller.process.waiting import WaitingApi
from tests.browser.chromium import Chrome, Scheme
from tests.browser.dashboard import database_away
from tests.browser.pages import LEAK_LINE
from tests.browser.world import HEALTHY, HELD, OPERATOR, READER, node_id
from tests.tokens import ADMIN

WHY: Final = "ticket 4712: it leaks"


class Look(NamedTuple):
    """How to open a page, and the folder of the dashboard's database."""

    chrome: Chrome
    folder: Path
    scheme: Scheme
    width: int

    def page(self, secret: Secret | None = ADMIN) -> AbstractContextManager[Page]:
        """A page as one looks at it."""
        return self.chrome.page(secret, scheme=self.scheme, width=self.width)


@contextmanager
def _login(look: Look) -> Iterator[Page]:
    with look.page(None) as page:
        page.goto("/login?why=ended")
        yield page


@contextmanager
def _login_refused(look: Look) -> Iterator[Page]:
    with look.page(None) as page:
        page.goto("/login")
        page.get_by_label("Token").fill("vxo_wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_be_visible()
        yield page


@contextmanager
def _continue(look: Look) -> Iterator[Page]:
    """A link in a mail was followed; the page would go on at once."""
    answered: list[str] = []

    def once(route: Route) -> None:
        if answered:
            route.fulfill(status=204)
            return
        answered.append(route.request.url)
        headers = {**route.request.headers, "sec-fetch-site": "cross-site"}
        route.fulfill(response=route.fetch(headers=headers))

    with look.page(None) as page:
        page.route("**/safety", once)
        page.goto("/safety")
        yield page


@contextmanager
def _forbidden(look: Look) -> Iterator[Page]:
    with look.page(READER) as page:
        page.goto(f"/do/pause?node={node_id(HEALTHY[2])}")
        yield page


@contextmanager
def _away(look: Look) -> Iterator[Page]:
    with look.page() as page, database_away(look.chrome.dashboard, look.folder):
        page.goto("/safety")
        yield page


@contextmanager
def _kept(look: Look) -> Iterator[Page]:
    """The database went away after something was typed."""
    with look.page(OPERATOR) as page:
        page.goto(f"/do/pause?node={node_id(HEALTHY[2])}")
        page.get_by_label("Why").fill(WHY)
        with database_away(look.chrome.dashboard, look.folder):
            page.locator("main button").click()
            expect(page.get_by_role("alert")).to_be_visible()
            yield page


def _acted(path: str, **fields: str) -> Callable[[Look], AbstractContextManager[Page]]:
    @contextmanager
    def way(look: Look) -> Iterator[Page]:
        with look.page(OPERATOR) as page:
            page.goto(path)
            for label, text in {"Why": WHY, **fields}.items():
                page.get_by_label(label.replace("_", " ")).fill(text)
            page.locator("main button").click()
            page.wait_for_load_state()
            yield page

    return way


@contextmanager
def _explained(look: Look) -> Iterator[Page]:
    with look.page() as page:
        page.goto("/explain")
        page.get_by_label("An error of Docker or Swarm").fill(LEAK_LINE)
        page.get_by_role("button", name="Explain").click()
        yield page


@contextmanager
def _over_the_matrix(look: Look) -> Iterator[Page]:
    with look.page() as page:
        page.goto("/matrix")
        page.get_by_role("link", name=f"{HELD}, mail: orphan").click()
        expect(page.get_by_role("dialog").get_by_role("heading", level=1)).to_be_visible()
        yield page


@contextmanager
def _lost(look: Look) -> Iterator[Page]:
    with look.page() as page:
        page.goto("/audit?stage=applied")
        expect(page.locator("#live")).to_have_text("Live")
        with look.chrome.dashboard.away():
            expect(page.locator("#live")).to_contain_text("Connection lost")
            yield page


@contextmanager
def _waiting(look: Look) -> Iterator[Page]:
    with (
        look.page() as page,
        listen("127.0.0.1:0") as listener,
        WaitingApi(listener, None) as waiting,
    ):
        waiting.tell(
            UnavailableError(
                "the database postgresql://db:5432/operator does not answer: connection refused",
                "start it, or set `DATABASE_URL`",
            )
        )
        page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        yield page


WAYS: Final[Mapping[str, Callable[[Look], AbstractContextManager[Page]]]] = {
    "login": _login,
    "login-refused": _login_refused,
    "continue": _continue,
    "forbidden": _forbidden,
    "away": _away,
    "away-kept": _kept,
    "done": _acted(f"/do/pause?node={node_id(HEALTHY[2])}", For_how_long="2h"),
    "done-nothing": _acted(f"/do/resume?node={node_id(HEALTHY[3])}"),
    "act-refused": _acted(f"/do/pause?node={node_id(HEALTHY[2])}", For_how_long="soon"),
    "notify-done": _acted("/do/notify/test?target=pulse"),
    "explained": _explained,
    "cell-over-matrix": _over_the_matrix,
    "lost": _lost,
    "waiting": _waiting,
}
"""By a name for the picture; each leaves a page as it is to be looked at."""
