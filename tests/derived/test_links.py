"""What an alert links to is below the address that the spec says, whatever that address looks like."""

from __future__ import annotations

import pytest

from mahavishnu.contract import contract
from mahavishnu.derived.dashboards import dashboards, spots
from mahavishnu.derived.links import dashboard_url, panel_url, runbook_url
from mahavishnu.spec import Spec
from tests.monitoring import MINIMAL


@pytest.mark.parametrize(
    ("base", "page", "board", "panel"),
    [
        ("https://x.example.com", "/ShopDown.md", "/d/shop-service", "/d/shop-service?viewPanel=1"),
        ("https://x.example.com/", "/ShopDown.md", "/d/shop-service", "/d/shop-service?viewPanel=1"),
        ("https://x.example.com/a/", "/a/ShopDown.md", "/a/d/shop-service", "/a/d/shop-service?viewPanel=1"),
        (
            "https://x.example.com/a/?orgId=2",
            "/a/ShopDown.md?orgId=2",
            "/a/d/shop-service?orgId=2",
            "/a/d/shop-service?viewPanel=1&orgId=2",
        ),
        ("https://x.example.com#b", "/ShopDown.md#b", "/d/shop-service#b", "/d/shop-service?viewPanel=1#b"),
    ],
)
def test_what_an_alert_links_is_below_the_address(base: str, page: str, board: str, panel: str) -> None:
    """A query or fragment of the address is kept, and stays where one belongs."""
    made = contract(Spec.model_validate({**MINIMAL, "alerts": {"runbooks": base, "dashboards": base}}))
    boards = dashboards(made)
    (down,) = (alert for alert in made.alerts if alert.name == "ShopDown")
    spot = spots(boards)["ShopDown"]._replace(number=1)
    urls = (runbook_url(made, down), dashboard_url(made, spot.dashboard), panel_url(made, down, spot))
    assert urls == tuple(f"https://x.example.com{one}" for one in (page, board, panel))


@pytest.mark.parametrize(
    ("tier", "shown"), [("P1", ""), ("P2", "&from=now-6h&to=now"), ("P4", "&from=now-72h&to=now")]
)
def test_a_panel_is_opened_as_far_back_as_its_alert_looks(tier: str, shown: str) -> None:
    """Where that is further than a dashboard shows by itself."""
    said = {
        "slos": {"availability": {"objective": "99.9%"}},
        "alerts": {"dashboards": "https://x.example.com"},
    }
    made = contract(Spec.model_validate({**MINIMAL, **said}))
    (burn,) = (alert for alert in made.alerts if alert.name == f"ShopSloAvailabilityBurn{tier}")
    assert panel_url(made, burn, spots(dashboards(made))[burn.name]).partition("?viewPanel=")[2].lstrip(
        "0123456789"
    ) == (shown)


def test_nothing_is_linked_without_an_address() -> None:
    """The spec does not say where they are."""
    made = contract(Spec.model_validate(MINIMAL))
    spot = spots(dashboards(made))["ShopDown"]
    assert (
        runbook_url(made, made.alerts[0])
        == dashboard_url(made, spot.dashboard)
        == panel_url(made, made.alerts[0], spot)
        == ""
    )
