"""MV423: environments of which one beats for the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mahavishnu.checks._environments import World, deployed
from mahavishnu.checks._facts import Facts, warning
from mahavishnu.errors import Problem
from mahavishnu.ground.codes import Code
from mahavishnu.ground.secret_refs import stands_for_all

CODE = Code(
    "MV423",
    "environments of which one beats for the other",
    "Who watches a heartbeat calls when it stops. Where another environment sends to the same URL, its heartbeat or "
    "its alerts, that does not stop while Prometheus or Alertmanager of the first is dead, and nobody is called.",
    'channels: {watch: {webhook: "https://heartbeats.example.com/shop"}, …}\n'
    "alerts: {heartbeat: [watch]}\n"
    "environments: {staging: {service: {name: shop_staging}}}",
    "Give each environment an address of its own, `environments: {staging: {channels: {watch: {webhook: …}}}}`, or "
    "take the channel away with its heartbeat, `staging: {channels: {watch: null}, alerts: {heartbeat: null}}`. Where "
    "nothing runs without an environment, write `deploy.targets` into the environments alone.",
)


def check(facts: Facts) -> Iterator[Problem]:
    """Every address of a heartbeat that another environment, or the spec without one, sends to as well."""
    worlds = [*deployed(facts.spec)]
    beating: dict[str, World] = {}
    for world in worlds:
        for url in _beats(world).values():
            beating.setdefault(url, world)
    for world in worlds:
        others = {url: _named(one) for url, one in beating.items() if one is not world}
        yield from _shared(world, others)
        yield from _mistaken(facts, world, others)


def _shared(world: World, others: Mapping[str, str]) -> Iterator[Problem]:
    for channel, url in _beats(world).items():
        if url in others:
            secret = stands_for_all(url)
            what = (
                f"the heartbeats of {_named(world)} and {others[url]} go to {f'`{url}`' if secret else 'one URL'}: "
                "while one beats, nobody is told that the other does not"
            )
            own = "name a secret of its own" if secret else "write an address of its own"
            unless = ", unless the value is another one there" if secret else ""
            path = _path(world, "channels", channel, "webhook")
            yield warning(CODE, path, what, f"{own} in `{'.'.join(path)}`{unless}")


def _mistaken(facts: Facts, world: World, others: Mapping[str, str]) -> Iterator[Problem]:
    """Channels of alerts whose URL is that of a heartbeat, but not of the same environment's."""
    beats = _beats(world)
    routed = {name for names in world.below("alerts", "route").values() for name in names}
    for channel, url in _webhooks(world).items():
        if url in others and url not in beats.values():
            what = (
                f"alerts of {_named(world)} go to channel `{channel}`, where {others[url]} has its heartbeat: "
                "each passes for a beat"
            )
            own = _path(world, "channels", channel, "webhook")
            if world.name and channel in facts.spec.channels and channel not in routed:
                path, help = _path(world, "alerts", "heartbeat"), f"set `{'.'.join(own[:-1])}: null`"
            else:
                path, help = own, f"write another URL in `{'.'.join(own)}`"
            yield warning(CODE, path, what, help)


def _beats(world: World) -> dict[str, str]:
    """The URLs of the heartbeat, by channel."""
    hooks = _webhooks(world)
    return {name: hooks[name] for name in world.at("alerts", "heartbeat") or () if name in hooks}


def _webhooks(world: World) -> dict[str, str]:
    channels = world.below("channels")
    return {name: one["webhook"] for name, one in channels.items() if "webhook" in one}


def _named(world: World) -> str:
    return f"`{world.name}`" if world.name else "the spec without an environment"


def _path(world: World, *path: str) -> tuple[str, ...]:
    return ("environments", world.name, *path) if world.name else path
