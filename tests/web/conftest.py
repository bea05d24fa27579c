"""The pages in this process, as a browser asks for them."""

from __future__ import annotations

import pytest

from tests.api.conftest import site  # noqa: F401 (a fixture)
from tests.api.site import Client, Site

BROWSER = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def browser(site: Site) -> Client:  # noqa: F811
    """Where nobody asks for a key."""
    return site.client(BROWSER)
