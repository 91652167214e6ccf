"""For each cross-check a spec where it speaks, with «» around the token it means, and its neighbour where it is silent."""

BASE = {
    "mahavishnu": "mahavishnu: 1",
    "service": "service: {name: shop, app: shop.main:app, traffic: 50/second}",
    "secrets": "secrets: [KEY]",
    "channels": 'channels: {room: {slack: "${KEY}", channel: "#shop"}}',
}

# name of the check -> (what is written, its neighbour, level, part of the sentence, part of the help)
WORLDS: dict[str, list[tuple[str, str, str, str, str]]] = {
    "effective_limit": [
        (
            "limits: {a: {rate: «300/minute»}}\ndeploy: {replicas: {max: 12}}",
            "limits: {a: {rate: 300/minute}}\ndeploy: {replicas: {max: 1}}",
            "error", "up to 3,600/minute", "scope: process",
        ),
        (
            "limits: {a: {rate: «5/15m»}}\ndeploy: {replicas: {min: 2, max: 2}}",
            "limits: {a: {rate: 5/15m, scope: process}}\ndeploy: {replicas: {min: 2, max: 2}}",
            "error", "up to 10/15m", "deploy.replicas.max: 1",
        ),
        (
            "limits: {a: {rate: «5/minute», mode: observe}}\ndeploy: {replicas: {max: 2}}",
            "limits: {a: {rate: 5/minute, mode: off}, b: {concurrency: 4}}\ndeploy: {replicas: {max: 2}}",
            "error", "2 processes share nothing", "",
        ),
    ],
    "min_calls": [
        (
            "service: {name: shop, app: shop.main:app, traffic: 10/minute}\n"
            "dependencies: {a: {breaker: {min_calls: «20», window: 30s}}}",
            "service: {name: shop, app: shop.main:app, traffic: 40/minute}\n"
            "dependencies: {a: {breaker: {min_calls: 20, window: 30s}}}",
            "error", "a process makes 5 at most", "min_calls: 5",
        ),
        (
            "service: {name: shop, app: shop.main:app, traffic: 40/minute}\ndeploy: {replicas: {min: 2, max: 2}}\n"
            "dependencies: {a: {«breaker»: {window: 30s}}}",
            "service: {name: shop, app: shop.main:app, traffic: 40/minute}\ndeploy: {replicas: {min: 1, max: 2}}\n"
            "dependencies: {a: {breaker: {window: 30s}}}",
            "error", "20 calls within 30s", "",
        ),
        (
            "service: {name: shop, app: shop.main:app, traffic: 10/minute}\n"
            "dependencies: {a: {retry: {budget: 50%}, breaker: {min_calls: «8», window: 30s}}}",
            "service: {name: shop, app: shop.main:app, traffic: 10/minute}\n"
            "dependencies: {a: {retry: {budget: 50%}, breaker: {min_calls: 7, window: 30s}}, "
            "b: {breaker: {consecutive_failures: 5}}, c: {breaker: {mode: off}}}",
            "error", "a process makes 7.5 at most", "",
        ),
    ],
    "retry_deadline": [
        (
            "limits: {r: {timeout: 5s}}\ndependencies: {a: {timeout: 2s, retry: {attempts: «3»}}}",
            "limits: {r: {timeout: 7s}}\ndependencies: {a: {timeout: 2s, retry: {attempts: 3}}}",
            "error", "may take 6s300ms (3 x 2s + 300ms of pauses), but limit `r` ends a request after 5s", "attempts",
        ),
        (
            "limits: {r: {timeout: 5s}}\ndependencies: {a: {timeout: «6s»}}",
            "limits: {r: {timeout: 5s}}\ndependencies: {a: {timeout: 5s}, b: {retry: {}}}",
            "error", "may take 6s (6s)", "shorten `timeout`",
        ),
        (
            "limits: {r: {timeout: 5s}, s: {timeout: 6s, match: {path: /slow}}}\n"
            "dependencies: {a: {timeout: 2s, retry: {attempts: «3»}, bulkhead: {concurrency: 4, wait: 1s}}}",
            "limits: {r: {timeout: 5s}, s: {timeout: 10s, match: {path: /slow}}}\n"
            "dependencies: {a: {timeout: 2s, retry: {attempts: 3}, bulkhead: {concurrency: 4, wait: 1s}}}",
            "error", "3 x 2s + 3s of waiting + 300ms of pauses", "",
        ),
        (
            "limits: {r: {timeout: 5s}}\ndependencies: {a: {timeout: 1s, retry: {attempts: «4», base: 1s, max: 2s}}}",
            "limits: {r: {timeout: 5s, match: {path: /x}}, s: {timeout: 1s, mode: observe}}\n"
            "dependencies: {a: {timeout: 1s, retry: {attempts: 4, base: 1s, max: 2s}}}",
            "error", "4 x 1s + 5s of pauses", "",
        ),
    ],
    "retry_slo": [
        (
            "slos: {fast: {objective: 95%, under: 1s}}\ndependencies: {a: {timeout: 2s, retry: {attempts: «3»}}}",
            "slos: {fast: {objective: 95%, under: 1s}}\ndependencies: {a: {timeout: 200ms, retry: {attempts: 3}}}",
            "warning", "slo `fast` promises 1s", "attempts",
        ),
        (
            "slos: {fast: {objective: 95%, under: 1s}}\ndependencies: {a: {timeout: «2s»}}",
            "slos: {fast: {objective: 95%, under: 1s, match: {path: /x}}}\ndependencies: {a: {timeout: 2s}, b: {}}",
            "warning", "may take 2s (2s)", "",
        ),
    ],
    "grace": [
        (
            "limits: {r: {timeout: «60s»}}",
            "limits: {r: {timeout: 60s}}\ndeploy: {shutdown: 60s}",
            "error", "a replica is stopped after 30s", "above 1m",
        ),
        (
            "limits: {r: {timeout: «31s», match: {path: /x}}}",
            "limits: {r: {timeout: 31s, match: {path: /x}, mode: observe}}",
            "error", "limit `r` gives a request 31s", "",
        ),
    ],
    "channels": [
        (
            "alerts: {route: {P1: [room, «rooom»], P2: [room], P3: [room], P4: [room]}}",
            "alerts: {route: {P1: [room], P2: [room], P3: [room], P4: [room]}}",
            "error", "alerts of severity P1 go to channel `rooom`", "did you mean `room`?",
        ),
        (
            "alerts: {route: {P1: [room], P2: [«pager»], P3: [room], P4: [room]}}",
            'channels: {room: {slack: "${KEY}", channel: "#s"}, pager: {pagerduty: "${KEY}"}}\n'
            "alerts: {route: {P1: [room], P2: [pager], P3: [room], P4: [room]}}",
            "error", "channel `pager`, which is not defined", "there is `room`",
        ),
    ],
    "subjects": [
        (
            "limits: {per_client: {rate: 5/minute}}\n"
            "alerts: {thresholds: {t: {when: «limits.per_clint.refused > 5%», severity: P3}}}",
            "limits: {per_client: {rate: 5/minute}}\n"
            "alerts: {thresholds: {t: {when: limits.per_client.refused > 5%, severity: P3}}}",
            "error", "there is no limit `per_clint`", "did you mean `per_client`?",
        ),
        (
            "alerts: {thresholds: {t: {when: «dependencies.stripe.failures > 5%», severity: P3}}}",
            "dependencies: {stripe: {}}\n"
            "alerts: {thresholds: {t: {when: dependencies.stripe.failures > 5%, severity: P3}}}",
            "error", "there is no dependency `stripe`", "add `stripe` under `dependencies`",
        ),
        (
            "limits: {a: {rate: 5/minute}}\nalerts: {thresholds: {t: {when: «queue.a > 5», severity: P3}}}",
            "limits: {a: {concurrency: 5, queue: 9}}\nalerts: {thresholds: {t: {when: queue.a > 5, severity: P3}}}",
            "error", "limit `a` is not one of `concurrency`", "refused",
        ),
        (
            "limits: {a: {rate: 5/minute}}\nalerts: {thresholds: {t: {when: «limits.a.utilisation > 5%», severity: P3}}}",
            "limits: {a: {concurrency: 5}}\nalerts: {thresholds: {t: {when: limits.a.utilisation > 5%, severity: P3}}}",
            "error", "limit `a` is not one of `concurrency`", "",
        ),
        (
            "dependencies: {a: {breaker: {}}}\nalerts: {thresholds: {t: {when: «dependencies.a.slow > 5%», severity: P3}}}",
            "dependencies: {a: {breaker: {slow_call: 1s}}}\n"
            "alerts: {thresholds: {t: {when: dependencies.a.slow > 5%, severity: P3}}}",
            "error", "nothing says when `a` is slow", "add `slow_call`",
        ),
    ],
    "routes": [
        (
            "limits: {a: {rate: 5/minute, match: {path: «/signin»}}}",
            "limits: {a: {rate: 5/minute, match: {path: /login}}}",
            "error", "no route of the app is `/signin`", "did you mean `/login`?",
        ),
        (
            "limits: {a: {rate: 5/minute, match: {path: «/orders/7»}}}",
            'limits: {a: {rate: 5/minute, match: {path: "/orders/{id}"}}, b: {rate: 5/minute, match: {path: "/orders/*"}}}',
            "error", "no route of the app is `/orders/7`", "/orders/{id}",
        ),
        (
            "slos: {a: {objective: 99.9%, match: {path: «\"/[lo]*\"»}}}",
            "slos: {a: {objective: 99.9%, match: {path: \"/lo*\"}}}",
            "error", "no route of the app is `/[lo]*`", "",
        ),
        (
            "limits: {a: {rate: 5/minute, match: {path: /login, method: «GET»}}}",
            "limits: {a: {rate: 5/minute, match: {path: /login, method: POST}}, b: {rate: 5/minute, match: {method: GET}}}",
            "error", "answers no GET on `/login`", "POST",
        ),
        (
            "limits: {a: {rate: 5/minute, match: {method: «DELETE»}}}",
            "limits: {a: {rate: 5/minute, match: {path: \"/static/*\", method: DELETE}}}",
            "error", "answers no DELETE on any route", "GET",
        ),
    ],
    "unheard": [
        (
            "alerts: {route: «{P1: [room], P2: [room], P4: [room]}»}\nlimits: {a: {rate: 5/minute}}",
            "alerts: {route: {P1: [room], P3: [room]}}\nlimits: {a: {rate: 5/minute}}",
            "error", "alerts of severity P3 go to no channel", "add `P3: [room]`",
        ),
        (
            "channels: «{}»",
            "limits: {a: {rate: 5/minute}}",
            "warning", "no channel to tell anyone", "add a channel",
        ),
    ],
    "dead_alerts": [
        (
            "slos: {a: {objective: «90%»}}",
            "slos: {a: {objective: 90%, severities: [P2, P3, P4]}}",
            "error", "P1 of slo `a` can never fire: 14.4 x 0.1 is 144%", "severities: [P2, P3, P4]",
        ),
        (
            "slos: {a: {objective: «5%», window: 7d, severities: [P1]}}",
            "slos: {a: {objective: 95%, window: 7d, severities: [P1]}}",
            "error", "P1 of slo `a` can never fire", "a higher objective",
        ),
        (
            "limits: {a: {rate: 5/minute, mode: off}}\n"
            "alerts: {thresholds: {t: {when: «limits.a.refused > 5%», severity: P3}}}",
            "limits: {a: {rate: 5/minute, mode: observe}}\n"
            "alerts: {thresholds: {t: {when: limits.a.refused > 5%, severity: P3}}}",
            "error", "never moves: limit `a` is off", "`observe` or `enforce`",
        ),
    ],
    "one_failure": [
        (
            "service: {name: shop, app: shop.main:app, traffic: 1/minute}\nslos: {a: {objective: «99.9%», severities: [P1]}}",
            "service: {name: shop, app: shop.main:app, traffic: 70/h}\nslos: {a: {objective: 99.9%, severities: [P1]}}",
            "warning", "it needs 70 requests in 1h, and at 1/minute there are 60", "promise less",
        ),
        (
            "service: {name: shop, app: shop.main:app}\nslos: {a: {objective: «99.9%»}}",
            "service: {name: shop, app: shop.main:app}\nslos: {a: {objective: 90%, severities: []}}",
            "warning", "the P1 alert of slo `a` fires on one failed request unless there are 70 requests in 1h",
            "service.traffic",
        ),
    ],
    "slow_slo": [
        (
            "limits: {r: {timeout: 10s}}\nslos: {a: {objective: 95%, under: «30s»}}",
            "limits: {r: {timeout: 30s}}\nslos: {a: {objective: 95%, under: 10s}}",
            "warning", "but requests end after 10s", "below 10s",
        ),
        (
            "limits: {r: {timeout: 10s}}\nslos: {a: {objective: 95%, under: «10s»}}",
            "limits: {r: {timeout: 10s, match: {path: /x}}}\nslos: {a: {objective: 95%, under: 10s}}",
            "warning", "", "",
        ),
    ],
    "history": [
        (
            "slos: {a: {objective: 99.9%, window: «90d»}}",
            "slos: {a: {objective: 99.9%, window: 90d}}\nretention: {metrics: 90d}",
            "error", "looks back 90d, but metrics are kept for 45d", "retention.metrics: 90d",
        ),
        (
            "slos: {«a»: {objective: 99.9%}}\nretention: {metrics: 29d}",
            "slos: {a: {objective: 99.9%}}\nretention: {metrics: 30d}",
            "error", "looks back 30d", "",
        ),
    ],
}  # fmt: skip
