"""The pages of FastAPI's are seen, wherever they are mounted; no others are."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse
from starlette.testclient import TestClient

from mahavishnu.inspection.pages import pages_of


def test_pages_that_fastapi_makes_are_seen_where_they_are() -> None:
    """At paths of one's own, and those of an app that is mounted."""
    app, inner = FastAPI(docs_url="/manual"), FastAPI(redoc_url=None)
    app.mount("/v1", inner)

    assert [*pages_of(app)] == ["/manual", "/redoc", "/v1/docs"]
    loaded = [TestClient(app).get(path).text for path in pages_of(app)]
    assert all('<script src="https://' in page for page in loaded), "what strict headers forbid"


def test_a_page_of_the_apps_own_may_say_what_it_loads() -> None:
    """Nobody knows what that is."""
    app = FastAPI(docs_url=None, redoc_url=None)

    @app.get("/docs")
    def swagger_ui_html() -> HTMLResponse:  # pyright: ignore[reportUnusedFunction]
        return get_swagger_ui_html(openapi_url="/openapi.json", title="shop")

    assert [*pages_of(app)] == []
