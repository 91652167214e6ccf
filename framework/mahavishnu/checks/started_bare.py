"""MV224: what is generated would start an app without the Hardening that stands elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from mahavishnu.checks._facts import Facts, error
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code

CODE = Code(
    "MV224",
    "deployed without Hardening",
    "What is generated for Compose and Kubernetes starts `service.app`, and no file of your own. With `hardening: "
    "elsewhere` that is an app without Hardening: no limit holds, and nobody answers the probes, so that no pod is "
    "ever ready.",
    "service: {app: shop.main:app, hardening: elsewhere}\ndeploy: {targets: {kubernetes: {}}}",
    "Let the module that puts Hardening around the app keep what it made, `app = Hardening(app)`, name that in "
    "`service.app` and leave `hardening` out. It is imported, so it starts a server of its own only below "
    '`if __name__ == "__main__":`. Or leave `deploy.targets` out, and deploy what starts your server yourself.',
)


def check(facts: Facts) -> Iterator[Problem]:
    """A target that starts the app, and Hardening where that does not lead."""
    service, targets = facts.spec.service, facts.spec.deploy.targets
    if service.hardening != "elsewhere" or not targets.any:
        return
    what = f"what is generated for `deploy.targets` starts `{service.app}`, which Hardening does not stand around"
    help = (
        "name in `service.app` what it is around, like `shop.serve:app` where `shop/serve.py` says "
        "`app = Hardening(app)`, and remove this key; or remove the targets"
    )
    yield error(CODE, ("service", "hardening"), what, help)
