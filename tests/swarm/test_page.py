"""The dashboard of the operator on a real Swarm, in a real browser: a leak is seen there, and its end."""

import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.browser.chromium import CHROMIUM, launch
from tests.conftest import cannot
from tests.lab import Lab
from tests.stack import Stack
from tests.swarm.services import make_network, make_service
from tests.tokens import ADMIN

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(600)]

_PORT = 8479
_PAGE_MS = 30_000
_HEALED_MS = 150_000


@contextmanager
def page_of_the_hub(lab: Lab) -> Iterator[Page]:
    """A page of Chromium, to which the hub's port of the dashboard is shown on this machine's loopback."""
    if not CHROMIUM.exists():
        cannot(f"needs {CHROMIUM}: `make install` brings it")
    with socket.create_server(("127.0.0.1", 0)) as listening, sync_playwright() as playwright:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        forward = [sys.executable, "-m", "tests.lab.forward", str(listening.fileno()), str(_PORT)]
        forwarding = lab.hub_popen(forward, pass_fds=(listening.fileno(),))
        browser = launch(playwright)
        try:
            context = browser.new_context(base_url=url)
            context.set_default_timeout(_PAGE_MS)
            yield context.new_page()
        finally:
            browser.close()
            forwarding.terminate()
            forwarding.wait(_PAGE_MS / 1000)


def test_a_leak_of_docker_is_followed_on_the_page_from_the_rejection_to_the_task_that_runs(
    lab: Lab, stack: Stack
) -> None:
    node = lab.nodes[1]
    network = make_network(lab, "watched")
    make_service(lab, "watched", network.name, node)
    with page_of_the_hub(lab) as page:
        page.goto("/audit?stage=applied")
        page.get_by_label("Token").fill(ADMIN.text)
        page.get_by_role("button", name="Log in").click()
        expect(page.locator("#live")).to_have_text("Live", timeout=_PAGE_MS)
        expect(page.locator("tbody tr")).to_have_count(0)

        leaked = lab.leak(node, network, "watched", replicas=1).device

        # Nothing is reloaded: the page hears of the removal.
        removal = page.locator("tbody tr", has_text=leaked.name)
        expect(removal).to_be_visible(timeout=_HEALED_MS)
        assert not leaked.exists()
        removal.locator("a[href^='/runs/']").first.click()

        timeline = page.get_by_role("list", name="Timeline")
        runs_again = re.compile(r"a successor of task \w+ runs$")
        expect(timeline.get_by_text(runs_again).first).to_be_visible(timeout=_HEALED_MS)
        steps = timeline.locator("li").all_inner_texts()
        in_order = (
            "error creating vxlan interface: file exists",
            "removed, as the kernel confirmed",
            "a successor of task",
        )
        told = [
            next(number for number, step in enumerate(steps) if words in step) for words in in_order
        ]
        assert told == sorted(told)
        lab.wait_tasks("watched", node=node)

        page.get_by_role("link", name="Overview").click()
        expect(page.locator("h1.verdict")).to_contain_text("All is well", timeout=_HEALED_MS)
