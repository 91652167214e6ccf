"""The shop itself: a Starlette app whose survival is written in mahavishnu.yaml, not here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from mahavishnu import dependency
from mahavishnu.asgi import Hardening
from mahavishnu.errors import DependencyError

PRODUCTS = {
    1: {"name": "guitar", "price": 900},
    2: {"name": "violin", "price": 1200},
    3: {"name": "drums", "price": 700},
}

payment = dependency("payment")


async def products(request: Request) -> Response:
    """Everything on sale."""
    return JSONResponse(PRODUCTS)


async def product(request: Request) -> Response:
    """One product."""
    found = PRODUCTS.get(request.path_params["id"])
    return JSONResponse(found) if found else JSONResponse({"error": "no such product"}, 404)


async def search(request: Request) -> Response:
    """Search; an empty question looks at everything, which takes too long."""
    question = request.query_params.get("q", "")
    if not question:
        await asyncio.sleep(30)
    return JSONResponse([one for one in PRODUCTS.values() if question in str(one["name"])])


async def login(request: Request) -> Response:
    """Nobody's password is ever right here."""
    return JSONResponse({"error": "wrong name or password"}, 401)


async def build_report() -> dict[str, int]:
    """A report takes a while to build."""
    await asyncio.sleep(0.3)
    return {"orders": 0}


async def reports(request: Request) -> Response:
    """The report of the day, built anew for each reader."""
    return JSONResponse(await build_report())


async def orders(request: Request) -> Response:
    """Take an order: the payment service has to agree, now or later."""
    order = await request.json()
    client: httpx.AsyncClient = request.app.state.payment
    try:
        answer = await client.post("/charges", json=order, extensions={"idempotent": True})
    except payment.Parked as parked:
        return JSONResponse({"paid": False, "paid_later": parked.key}, 202)
    except DependencyError as refusal:
        wait = -(-(refusal.retry_after or 10**9) // 10**9)
        return JSONResponse({"error": str(refusal)}, 503, headers={"retry-after": str(wait)})
    except httpx.HTTPError as fault:
        return JSONResponse({"error": f"payment failed: {type(fault).__name__}"}, 502)
    return JSONResponse({"paid": answer.is_success}, 201 if answer.is_success else 502)


async def events(request: Request) -> Response:
    """What happens in the shop, as server-sent events."""

    async def told() -> AsyncIterator[str]:
        for number in range(3):
            yield f"data: visitor {number}\n\n"

    return StreamingResponse(told(), media_type="text/event-stream")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[None]:
    """The client of the payment service lives as long as the app."""
    async with payment.httpx_async_client() as client:
        app.state.payment = client
        yield


def create_app(**options: Any) -> Starlette:
    """The shop, with options for its middleware: tests inject a clock."""
    return Starlette(
        routes=[
            Route("/products", products),
            Route("/products/{id:int}", product),
            Route("/search", search),
            Route("/login", login, methods=["POST"]),
            Route("/reports", reports),
            Route("/orders", orders, methods=["POST"]),
            Route("/events", events),
        ],
        middleware=[Middleware(Hardening, **options)],
        lifespan=lifespan,
    )


app = create_app()
