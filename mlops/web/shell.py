"""What all pages share: the frame around them, the files that draw them, and headers that let nothing else in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.requests import HTTPConnection
from starlette.staticfiles import StaticFiles

from mlops.settings import RiskSettings
from mlops.web.cards import Page

STATIC = Path(__file__).parent / "static"
POLICY = (  # https://www.w3.org/TR/CSP3/: nothing from elsewhere, nothing inline
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
PAGES = Environment(
    loader=PackageLoader("mlops.web"), autoescape=select_autoescape(), undefined=StrictUndefined, trim_blocks=True
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",  # under no-referrer a browser says `Origin: null` where its form is sent
}
Visitor = Callable[[HTTPConnection], Awaitable[str | None]]


def drawn(template: str, status: int = 200, **values: object) -> Response:
    """A page from its template."""
    text = PAGES.get_template(template).render(version=VERSION, why=values.pop("why", ""), **values)
    return HTMLResponse(text, status, HEADERS)


def router(pages: Mapping[str, Page], visitor: Visitor, risk: RiskSettings) -> APIRouter:
    """`/` and the pages, for who has logged in."""
    routes = APIRouter(include_in_schema=False)
    first = next(iter(pages))

    @routes.get("/")
    async def home() -> Response:
        return RedirectResponse(f"/{first}", 303)

    for name, page in pages.items():
        _page(routes, name, page, pages, visitor, risk)
    return routes


def mount(app: FastAPI) -> None:
    """Serve the files that draw the pages."""
    app.mount("/static", StaticFiles(directory=STATIC), name="static")


def _page(
    routes: APIRouter, name: str, page: Page, pages: Mapping[str, Page], visitor: Visitor, risk: RiskSettings
) -> None:
    @routes.get(f"/{name}", name=f"page_{name}")
    async def show(request: Request) -> Response:
        if await visitor(request) is None:
            return RedirectResponse("/login", 303)
        return drawn("page.html", name=name, page=page, pages=pages, risk=risk)


def _version() -> str:
    """Digest of the files together: a browser that has others asks again."""
    return sha256(b"".join(path.read_bytes() for path in sorted(STATIC.iterdir()))).hexdigest()[:12]


VERSION = _version()
