"""Bad values, one a line: the code of the one finding, and a section with «» around its token."""
# ruff: noqa: E501  (a table: one row, one line)

BASE = {
    "mahavishnu": "mahavishnu: 1",
    "service": "service: {name: shop, app: shop.main:app}",
    "secrets": "secrets: [KEY]",
}

ROWS = r"""
MV016 mahavishnu2: 1
MV105 mahavishnu: «2»
MV105 mahavishnu: «0»
MV104 mahavishnu: «true»
MV104 mahavishnu: «"1"»
MV104 mahavishnu: «1.0»
MV104 mahavishnu: «{}»
MV104 «mahavishnu»:

MV103 «service»: {name: shop}
MV103 «service»: {app: shop.main:app}
MV104 service: «[]»
MV104 service: «shop»
MV104 «service»:
MV106 service: {name: «Shop», app: shop.main:app}
MV106 service: {name: «shop-one», app: shop.main:app}
MV106 service: {name: «shop__one», app: shop.main:app}
MV106 service: {name: «_shop», app: shop.main:app}
MV106 service: {name: «1shop», app: shop.main:app}
MV106 service: {name: «""», app: shop.main:app}
MV106 service: {name: «"shop "», app: shop.main:app}
MV106 service: {name: «shöp», app: shop.main:app}
MV107 service: {name: «aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa», app: shop.main:app}
MV104 service: {name: «7», app: shop.main:app}
MV104 service: {name: «null», app: shop.main:app}
MV108 service: {name: shop, app: «shop.main»}
MV108 service: {name: shop, app: «"shop.main:app:b"»}
MV108 service: {name: shop, app: «"../evil:app"»}
MV108 service: {name: shop, app: «"a b:c"»}
MV104 service: {name: shop, app: «[a]»}
MV108 service: {name: shop, app: shop.main:app, app_dir: «/etc»}
MV108 service: {name: shop, app: shop.main:app, app_dir: «../up»}
MV108 service: {name: shop, app: shop.main:app, app_dir: «a/../../up»}
MV101 service: {name: shop, app: shop.main:app, «prot»: 8000}
MV101 service: {name: shop, app: shop.main:app, «Port»: 8000}
MV104 service: {name: shop, app: shop.main:app, port: «"8000"»}
MV104 service: {name: shop, app: shop.main:app, port: «true»}
MV104 service: {name: shop, app: shop.main:app, port: «8000.0»}
MV104 service: {name: shop, app: shop.main:app, port: «8e3»}
MV107 service: {name: shop, app: shop.main:app, port: «80»}
MV107 service: {name: shop, app: shop.main:app, port: «70000»}
MV107 service: {name: shop, app: shop.main:app, port: «-1»}
MV014 service: {name: shop, app: shop.main:app, port: «80000000000000000000»}
MV107 service: {name: shop, app: shop.main:app, workers: «65»}
MV107 service: {name: shop, app: shop.main:app, workers: «0»}
MV104 service: {name: shop, app: shop.main:app, workers: «yes»}
MV102 service: {name: shop, app: shop.main:app, traffic: «50»}
MV102 service: {name: shop, app: shop.main:app, traffic: «50/fortnight»}
MV102 service: {name: shop, app: shop.main:app, traffic: «0/second»}
MV105 service: {name: shop, app: shop.main:app, tier: «high»}
MV105 service: {name: shop, app: shop.main:app, tier: «1»}
MV104 service: {name: shop, app: shop.main:app, trusted_proxies: «10.0.0.0/8»}
MV108 service: {name: shop, app: shop.main:app, trusted_proxies: [«10.0.0.1/8»]}
MV108 service: {name: shop, app: shop.main:app, trusted_proxies: [«10.0.0/8»]}
MV108 service: {name: shop, app: shop.main:app, trusted_proxies: [«proxy»]}
MV104 service: {name: shop, app: shop.main:app, trusted_proxies: [«10»]}
MV105 service: {name: shop, app: shop.main:app, forwarded: «X-Real-IP»}
MV104 service: {name: shop, app: shop.main:app, forwarded: «[forwarded]»}
MV107 service: {name: shop, app: shop.main:app, owner: «""»}
MV108 service: {name: shop, app: shop.main:app, owner: «"a\nb"»}
MV122 service: {name: shop, app: shop.main:app, owner: «"${KEY}"»}
MV122 service: {name: shop, app: shop.main:app, owner: «"${KEYS}"»}
MV013 service: {name: shop, app: shop.main:app, owner: «"a\eb"»}
MV013 service: {name: shop, app: shop.main:app, owner: «"a\u202eb"»}

MV104 secrets: «KEY»
MV104 secrets: «{KEY: x}»
MV108 secrets: [KEY, «key»]
MV108 secrets: [KEY, «KEY-2»]
MV108 secrets: [KEY, «2KEY»]
MV104 secrets: [KEY, «3»]
MV104 secrets: [KEY, «null»]
MV108 secrets: [KEY, «slack_webhook»]
MV109 secrets: [KEY, «MAHAVISHNU_SPEC»]
MV109 secrets: [KEY, «PATH»]
MV109 secrets: [KEY, «HOME»]
MV109 secrets: [KEY, «PYTHONPATH»]
MV109 secrets: [KEY, «SECRETS_DIR»]

MV401 store: «"${KEYS}"»
MV108 store: «"redis://:${KEY}@"»
MV108 store: «memory»
MV108 store: «"sqlite://x"»
MV108 store: «"redis://me@localhost"»
MV109 store: «"redis://:pw@localhost"»
MV104 store: «{url: "memory://"}»
MV109 store: «"redis://redis:99999"»
MV109 store: «"redis://redis:0"»
MV109 store: «"valkeys://[1:2]"»
MV109 store: «"redis://user:${KEY}@a..b"»
MV108 store: «"redis://redis?socket_timeout=0"»
MV108 store: «"redis://redis?socket_timeout=0.000"»

MV104 «limits»:
MV104 limits: «[]»
MV104 limits: {a: «300/minute»}
MV104 limits: {«a»: }
MV111 limits: {«a»: {}}
MV111 limits: {«a»: {mode: observe}}
MV111 limits: {a: {«rates»: 300/minute}}
MV111 limits: {a: {rate: 300/minute, «body»: 1MiB}}
MV111 limits: {a: {timeout: 5s, «concurrency»: 4}}
MV102 limits: {a: {rate: «300»}}
MV102 limits: {a: {rate: «300/»}}
MV102 limits: {a: {rate: «/minute»}}
MV102 limits: {a: {rate: «300 / minute»}}
MV102 limits: {a: {rate: «300/month»}}
MV102 limits: {a: {rate: «-5/minute»}}
MV102 limits: {a: {rate: «0/minute»}}
MV102 limits: {a: {rate: «1.5/minute»}}
MV102 limits: {a: {rate: «1e3/minute»}}
MV102 limits: {a: {rate: «.inf»}}
MV102 limits: {a: {rate: «.nan»}}
MV102 limits: {a: {rate: «true»}}
MV102 limits: {a: {rate: «unlimited»}}
MV102 limits: {a: {rate: «[300/minute]»}}
MV102 limits: {a: {rate: «300/0s»}}
MV102 limits: {a: {rate: «٣٠٠/minute»}}
MV104 limits: {a: {«rate»: }}
MV101 limits: {a: {rate: 300/minute, «brust»: 50}}
MV101 limits: {a: {rate: 300/minute, «queue»: 5}}
MV101 limits: {a: {rate: 300/minute, «<<»: {burst: 5}}}
MV012 limits: {a: {rate: 300/minute, «true»: 5}}
MV012 limits: {«1»: {rate: 300/minute}}
MV104 limits: {a: {rate: 300/minute, burst: «"50"»}}
MV104 limits: {a: {rate: 300/minute, burst: «50%»}}
MV104 limits: {a: {rate: 300/minute, burst: «true»}}
MV104 limits: {a: {rate: 300/minute, burst: «1.0»}}
MV104 limits: {a: {rate: 300/minute, burst: «1_000»}}
MV107 limits: {a: {rate: 300/minute, burst: «0»}}
MV107 limits: {a: {rate: 300/minute, burst: «-5»}}
MV107 limits: {a: {rate: 300/minute, burst: «10000000000»}}
MV105 limits: {a: {rate: 300/minute, per: «clients»}}
MV104 limits: {a: {rate: 300/minute, per: «5»}}
MV105 limits: {a: {rate: 300/minute, per: [client, «ipp»]}}
MV107 limits: {a: {rate: 300/minute, per: «[]»}}
MV109 limits: {«a»: {rate: 300/minute, per: tool}}
MV105 limits: {a: {rate: 300/minute, per: [client, «header:X_Key»]}}
MV105 limits: {a: {rate: 300/minute, per: «"header:"»}}
MV109 limits: {«a»: {rate: 300/minute, per: [client, tool], match: {path: /x}}}
MV105 limits: {a: {rate: 300/minute, algorithm: «fixed»}}
MV105 limits: {a: {rate: 300/minute, mode: «on»}}
MV105 limits: {a: {rate: 300/minute, mode: «false»}}
MV105 limits: {a: {rate: 300/minute, scope: «host»}}
MV109 limits: {«a»: {rate: 300/minute, burst: 5, algorithm: sliding_log}}
MV109 limits: {«a»: {rate: 3000/minute, algorithm: sliding_log}}
MV109 limits: {«a»: {rate: 300/minute, cost: 400}}
MV108 limits: {a: {rate: 300/minute, match: {path: «login»}}}
MV108 limits: {a: {rate: 300/minute, match: {path: «"/a b"»}}}
MV105 limits: {a: {rate: 300/minute, match: {method: «post»}}}
MV105 limits: {a: {rate: 300/minute, match: {method: «FETCH»}}}
MV104 limits: {a: {rate: 300/minute, match: «/login»}}
MV110 limits: {a: {concurrency: 4, match: «{tool: "x*"}»}}
MV110 limits: {a: {timeout: 5s, match: «{tool: "x*"}»}}
MV109 limits: {a: {rate: 300/minute, «match»: {tool: "x*", method: GET}}}
MV108 limits: {a: {rate: 300/minute, match: {tool: «"a b"»}}}
MV108 limits: {a: {rate: 300/minute, match: {tool: «"[ab]"»}}}
MV110 slos: {a: {objective: 99%, match: {«tool»: x}}}
MV101 limits: {a: {rate: 300/minute, match: {«route»: /login}}}
MV106 limits: {«per-client»: {rate: 300/minute}}
MV106 limits: {«perClient»: {rate: 300/minute}}
MV106 limits: {«per__client»: {rate: 300/minute}}
MV106 limits: {«a.b»: {rate: 300/minute}}
MV106 limits: {«../x»: {rate: 300/minute}}
MV106 limits: {«" "»: {rate: 300/minute}}
MV106 limits: {«aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa»: {rate: 300/minute}}
MV013 limits: {«"a\u200bb"»: {rate: 300/minute}}
MV011 limits: {a: {rate: 300/minute}, «a»: {rate: 3/minute}}
MV008 limits: {a: {rate: «!!str 300/minute»}}
MV105 limits: {a: {concurrency: «adaptve»}}
MV105 limits: {a: {concurrency: «four»}}
MV107 limits: {a: {concurrency: «0»}}
MV109 limits: {«a»: {concurrency: 4, max: 400}}
MV107 limits: {a: {concurrency: adaptive, max: «0»}}
MV104 limits: {a: {concurrency: 4, critical: «/checkout»}}
MV104 limits: {a: {concurrency: 4, sheddable: [«/search»]}}
MV110 limits: {a: {concurrency: 4, critical: [{«tool»: pay}]}}
MV107 limits: {a: {concurrency: 4, queue: «-1»}}
MV102 limits: {a: {concurrency: 4, queue: 4, wait: «2»}}
MV109 limits: {«a»: {concurrency: 4, wait: 5s}}
MV109 limits: {«a»: {concurrency: adaptive, queue: 0, wait: 5s, sheddable: [{path: /login}]}}
MV102 limits: {a: {body: «1048576»}}
MV102 limits: {a: {body: «1 MiB»}}
MV102 limits: {a: {body: «1mb»}}
MV102 limits: {a: {body: «0B»}}
MV102 limits: {a: {timeout: «10»}}
MV102 limits: {a: {timeout: «10 s»}}
MV102 limits: {a: {timeout: «10sec»}}
MV102 limits: {a: {timeout: «-10s»}}
MV102 limits: {a: {timeout: «0s»}}
MV102 limits: {a: {timeout: «1.5s»}}
MV102 limits: {a: {timeout: «1:30»}}
MV102 limits: {a: {timeout: «""»}}
MV102 limits: {a: {timeout: «99999999999999d»}}

MV106 dependencies: {«Stripe»: {timeout: 2s}}
MV104 dependencies: {a: «https://example.com»}
MV105 dependencies: {a: {fallback: «dead_leter»}}
MV111 dependencies: {a: {fallback: {«cache»: 1h}}}
MV111 dependencies: {a: {fallback: {static: 1, «stale_cache»: 1h}}}
MV102 dependencies: {a: {fallback: {stale_cache: «60»}}}
MV104 dependencies: {a: {fallback: {«static»: }}}
MV105 dependencies: {a: {fallback: {dead_letter: «false»}}}
MV104 dependencies: {a: {fallback: «7»}}
MV107 dead_letters: {entries: «0»}
MV105 dead_letters: {when_full: «wait»}
MV108 dead_letters: {store: «"sqlite:"»}
MV108 dead_letters: {store: «"memory://"»}
MV109 dead_letters: {store: «"redis://:pw@localhost"»}
MV109 dead_letters: {store: «"redis://redis:65536"»}
MV107 dead_letters: {redrive: {attempts: «0»}}
MV102 dead_letters: {redrive: {base: «1»}}
MV109 dead_letters: {«redrive»: {base: 1h, max: 1m}}
MV109 dead_letters: {«redrive»: {base: 2h}}
MV101 dependencies: {a: {«retries»: {attempts: 3}}}
MV101 dependencies: {a: {«attempts»: 3}}
MV108 dependencies: {a: {url: «ftp://example.com»}}
MV108 dependencies: {a: {url: «"https://user:hunter2@example.com"»}}
MV108 dependencies: {a: {url: «example.com»}}
MV104 dependencies: {a: {«retry»: }}
MV104 dependencies: {a: {retry: «3»}}
MV107 dependencies: {a: {retry: {attempts: «0»}}}
MV107 dependencies: {a: {retry: {attempts: «11»}}}
MV104 dependencies: {a: {retry: {attempts: «3.0»}}}
MV102 dependencies: {a: {retry: {budget: «0.2»}}}
MV102 dependencies: {a: {retry: {budget: «20»}}}
MV102 dependencies: {a: {retry: {budget: «120%»}}}
MV102 dependencies: {a: {retry: {budget: «0%»}}}
MV104 dependencies: {a: {retry: {retry_on: «timeout»}}}
MV105 dependencies: {a: {retry: {retry_on: [«timeot»]}}}
MV107 dependencies: {a: {retry: {retry_on: [503, «700»]}}}
MV107 dependencies: {a: {retry: {retry_on: [«200»]}}}
MV105 dependencies: {a: {retry: {retry_on: [«5.5»]}}}
MV105 dependencies: {a: {retry: {retry_on: [«true»]}}}
MV102 dependencies: {a: {breaker: {failure_rate: «50»}}}
MV102 dependencies: {a: {breaker: {failure_rate: «half»}}}
MV102 dependencies: {a: {breaker: {window: «30»}}}
MV107 dependencies: {a: {breaker: {probes: «0»}}}
MV107 dependencies: {a: {breaker: {min_calls: «0»}}}
MV101 dependencies: {a: {breaker: {«half_open»: 3}}}
MV102 dependencies: {a: {retry: {within: «5»}}}
MV109 dependencies: {a: {«breaker»: {open_for: 30s, max_open_for: 5s}}}
MV109 dependencies: {a: {«breaker»: {failure_on: [timeout, 503], ignore: [503, timeout, connect]}}}
MV109 dependencies: {a: {«breaker»: {failure_on: [timeout], ignore: [timeout], slow_call: 1s}}}
MV109 dependencies: {a: {«breaker»: {failure_on: []}}}
MV109 dependencies: {a: {«retry»: {retry_on: []}}}
MV109 dependencies: {a: {«retry»: {base: 10s, max: 100ms}}}
MV109 dependencies: {a: {«retry»: {base: 2001ms}}}
MV105 dependencies: {a: {breaker: {mode: «on»}}}
MV105 dependencies: {a: {breaker: {scope: «all»}}}
MV105 dependencies: {a: {breaker: {ignore: [«declined»]}}}
MV109 dependencies: {a: {breaker: {ignore: [«Declined»]}}}
MV107 dependencies: {a: {breaker: {failure_on: [«200»]}}}
MV102 dependencies: {a: {throttle: {accepts: «0.5»}}}
MV109 dependencies: {a: {«throttle»: {most: 100%}}}
MV103 dependencies: {a: {«bulkhead»: {}}}
MV107 dependencies: {a: {bulkhead: {concurrency: «0»}}}

MV103 slos: {«a»: {}}
MV102 slos: {a: {objective: «0.9995»}}
MV102 slos: {a: {objective: «99.9»}}
MV102 slos: {a: {objective: «"99,9%"»}}
MV102 slos: {a: {objective: «99.99999999%»}}
MV102 slos: {a: {objective: «101%»}}
MV109 slos: {a: {objective: «100%»}}
MV105 slos: {a: {objective: 99.9%, window: «31d»}}
MV105 slos: {a: {objective: 99.9%, window: «4w»}}
MV105 slos: {a: {objective: 99.9%, window: «30 days»}}
MV105 slos: {a: {objective: 99.9%, window: «30»}}
MV105 slos: {a: {objective: 99.9%, severities: [«P5»]}}
MV104 slos: {a: {objective: 99.9%, query: «up»}}
MV101 slos: {a: {objective: 99.9%, query: {«good»: up}}}
MV109 slos: {«a»: {objective: 99.9%, query: {total: up}}}
MV109 slos: {«a»: {objective: 99.9%, query: {age: up}}}
MV109 slos: {«a»: {objective: 99.9%, fresh: 1h}}
MV109 slos: {«a»: {objective: 99.9%, fresh: 1h, query: {age: up, bad: up}}}
MV109 slos: {«a»: {objective: 99.9%, under: 1s, query: {total: up, bad: up}}}
MV109 slos: {«a»: {objective: 99.9%, fresh: 1h, min_requests: 5, query: {age: up}}}
MV108 slos: {a: {objective: 99.9%, query: {total: «""», bad: up}}}
MV107 slos: {a: {objective: 99.9%, min_requests: «0»}}
MV105 slos: {a: {objective: 99.9%, min_requests: «some»}}
MV101 slos: {a: {objective: 99.9%, «target»: 1s}}

MV111 channels: {«a»: {channel: "#x"}}
MV111 channels: {a: {slack: "${KEY}", «email»: a@example.com, channel: "#x"}}
MV121 channels: {a: {slack: «"https://hooks.slack.com/services/T0/B0/XXXX"», channel: "#x"}}
MV121 channels: {a: {pagerduty: «0123456789abcdef»}}
MV121 channels: {a: {slack: «KEY», channel: "#x"}}
MV104 channels: {a: {pagerduty: «12345»}}
MV401 channels: {a: {slack: «"${NOKEY}"», channel: "#x"}}
MV103 channels: {«a»: {slack: "${KEY}"}}
MV108 channels: {a: {slack: "${KEY}", channel: «shop»}}
MV108 channels: {a: {email: «nobody», smtp: "smtp.example.com:587"}}
MV108 channels: {a: {email: a@example.com, smtp: «smtp.example.com»}}
MV109 channels: {a: {email: a@example.com, smtp: «"smtp.example.com:99999"»}}
MV109 channels: {a: {email: a@example.com, smtp: «"smtp.example.com:0"»}}
MV109 channels: {a: {email: a@example.com, smtp: «"-..:25"»}}
MV109 channels: {«a»: {email: a@example.com, smtp: "b:25", require_tls: false, password: "${KEY}"}}
MV108 channels: {a: {webhook: «"file:///etc/passwd"»}}
MV109 channels: {a: {webhook: «"https://hooks.example.com/{{x}}"»}}
MV121 channels: {a: {webhook: "http://example.com", token: «abc»}}
MV401 channels: {a: {webhook: «"${NOKEY}"»}}
MV108 channels: {a: {webhook: «"${key}"»}}
MV108 channels: {a: {webhook: «"${KEY}/a"»}}
MV108 channels: {a: {webhook: «"https://"»}}

MV105 alerts: {route: {«P5»: [a]}}
MV105 alerts: {route: {«critical»: [a]}}
MV104 alerts: {route: {P1: «room»}}
MV107 alerts: {route: {P1: «[]»}}
MV106 alerts: {route: {P1: [«Room»]}}
MV108 alerts: {runbooks: «runbooks.example.com»}
MV103 alerts: {thresholds: {«a»: {when: memory > 90%}}}
MV111 alerts: {thresholds: {«a»: {severity: P2}}}
MV111 alerts: {thresholds: {a: {when: memory > 90%, «query»: up > 0, severity: P2}}}
MV102 alerts: {thresholds: {a: {query: up > 0, severity: P2, for: «5»}}}
MV105 alerts: {thresholds: {a: {when: memory > 90%, severity: «high»}}}
MV102 alerts: {thresholds: {a: {when: memory > 90%, severity: P2, for: «10»}}}
MV109 alerts: {thresholds: {a: {when: «memory > 90», severity: P2}}}
MV109 alerts: {thresholds: {a: {when: «error_rate > 101%», severity: P2}}}
MV109 alerts: {thresholds: {a: {when: «error_rate > 100%», severity: P2}}}
MV109 alerts: {thresholds: {a: {when: «memry > 90%», severity: P2}}}
MV109 alerts: {thresholds: {a: {when: «memory < 90%», severity: P2}}}
MV109 alerts: {thresholds: {a: {when: «cpu <= 70%», severity: P2}}}
MV109 alerts: {thresholds: {a: {when: «error_rate < 5%», severity: P2}}}
MV109 alerts: {thresholds: {a: {when: «latency.p99 < 500ms», severity: P2}}}
MV109 alerts: {thresholds: {a: {when: «dead_letters.age <= 1h», severity: P2}}}
MV109 alerts: {thresholds: {a: {when: «memory = 90%», severity: P2}}}
MV109 alerts: {thresholds: {a: {when: «dead_letters.age > 5», severity: P2}}}
MV108 alerts: {quiet: [{severity: P3, from: «"25:00"», to: "07:00"}]}
MV108 alerts: {quiet: [{severity: P3, from: «22:0», to: "07:00"}]}
MV103 alerts: {quiet: [«{severity: P3, from: "22:00"}»]}
MV109 alerts: {quiet: [{severity: P3, from: "22:00", to: "07:00", timezone: «Europe/Atlantis»}]}

MV102 retention: {metrics: «45»}
MV109 retention: {logs: «5h»}
MV102 retention: {logs: «30»}
MV105 observability: {logs: {kept_in: [«syslog»]}}
MV101 retention: {«metric»: 45d}
MV108 observability: {metrics: {path: «metrics»}}
MV108 observability: {metrics: {otlp: «collector:4318»}}
MV108 observability: {metrics: {otlp: «"http://user:pw@collector:4318"»}}
MV102 observability: {metrics: {otlp: "http://c:4318", every: «15»}}
MV105 observability: {logs: {level: «trace»}}
MV108 observability: {logs: {redact: [«"a b"»]}}
MV103 observability: {«traces»: {sample: 10%}}
MV102 observability: {traces: {otlp: "http://c:4318", sample: «0.1»}}
MV108 observability: {traces: {otlp: «"http://user:pw@collector:4318"»}}
MV105 security: {headers: «lax»}
MV107 security: {cors: {origins: «[]»}}
MV104 security: {cors: {origins: «"*"»}}
MV108 security: {cors: {origins: [«"*"»]}}
MV104 security: {cors: {origins: «https://shop.example.com»}}
MV108 security: {cors: {origins: [«"*"»], credentials: true}}
MV104 security: {cors: {origins: ["https://a.example.com"], credentials: «"yes"»}}
MV104 security: {cors: {origins: ["https://a.example.com"], credentials: «1»}}
MV108 security: {cors: {origins: ["https://a.example.com"], expose: [«"X Total"»]}}
MV108 security: {cors: {origins: ["https://a.example.com"], credentials: true, expose: [«"*"»]}}
MV108 security: {cors: {origins: [«"https://shop.example.com/"»]}}
MV109 security: {cors: {origins: [«"https://Shop.Example.com"»]}}
MV109 security: {cors: {origins: [«"https://a.example.com:443"»]}}
MV109 security: {cors: {origins: [«"http://a.example.com:80"»]}}
MV109 security: {cors: {origins: [«"https://:"»]}}
MV109 security: {cors: {origins: [«"https://a.example.com:"»]}}
MV109 security: {cors: {origins: [«"https://[0:0:0:0:0:0:0:1]"»]}}
MV110 security: {«scan»: [secrets]}

MV104 deploy: {replicas: {min: «three»}}
MV104 deploy: {replicas: «3»}
MV107 deploy: {replicas: {max: «0»}}
MV109 deploy: {«replicas»: {min: 3, max: 2}}
MV102 deploy: {resources: {memory: «512»}}
MV102 deploy: {resources: {cpu: «0.5»}}
MV102 deploy: {resources: {cpu: «1»}}
MV102 deploy: {shutdown: «30»}
MV102 deploy: {startup: «30»}
MV109 deploy: {startup: «1d1ms»}
MV108 deploy: {image: «"img; rm -rf /"»}
MV108 deploy: {image: «"IMG UPPER"»}
MV108 deploy: {image: «ghcr.io/Example/shop»}
MV108 deploy: {image: «Example/shop»}
MV108 deploy: {image: «"a:b:c:d"»}
MV108 deploy: {image: «a___b»}
MV108 deploy: {image: «a//b»}
MV108 deploy: {image: «"a:.b"»}
MV104 deploy: {targets: {«compose»: }}
MV104 deploy: {targets: {compose: {monitoring: «1»}}}
MV104 deploy: {targets: {kubernetes: {ipv6: «1»}}}
MV104 deploy: {targets: {compose: {monitoring: «yes»}}}
MV104 deploy: {targets: {compose: {monitoring: «"true"»}}}
MV105 deploy: {targets: {compose: {publish: «nobody»}}}
MV104 deploy: {targets: «[compose]»}
MV108 deploy: {targets: {kubernetes: {namespace: «Shop_1»}}}
MV108 deploy: {targets: {kubernetes: {host: «localhost»}}}
MV108 deploy: {targets: {kubernetes: {host: «10.0.0.1»}}}
MV110 deploy: {targets: {«cloud_run»: {project: x}}}
MV101 deploy: {targets: {«k8s»: {}}}
MV110 deploy: {«rollout»: {bake: 15m}}

MV104 «backups»:
MV103 backups: {«a»: {to: b, password: "${KEY}", schedule: "0 2 * * *", rpo: 25h}}
MV111 backups: {a: {«source»: {}, to: b, password: "${KEY}", schedule: "0 2 * * *", rpo: 25h}}
MV111 backups: {a: {source: {sqlite: a, «directory»: b}, to: b, password: "${KEY}", schedule: "0 2 * * *", rpo: 25h}}
MV121 backups: {a: {source: {postgres: «"postgresql://u:p@h/d"»}, to: b, password: "${KEY}", schedule: "0 2 * * *", rpo: 25h}}
MV121 backups: {a: {source: {sqlite: a}, to: b, password: «hunter2», schedule: "0 2 * * *", rpo: 25h}}
MV401 backups: {a: {source: {sqlite: a}, to: b, password: «"${NOBODYS}"», schedule: "0 2 * * *", rpo: 25h}}
MV109 backups: {a: {source: {sqlite: a}, to: [«"rest:https://me:pw@h/"»], password: "${KEY}", schedule: "0 2 * * *", rpo: 25h}}
MV109 backups: {a: {source: {sqlite: a}, to: «[b, b]», password: "${KEY}", schedule: "0 2 * * *", rpo: 25h}}
MV107 backups: {a: {source: {sqlite: a}, to: «[]», password: "${KEY}", schedule: "0 2 * * *", rpo: 25h}}
MV108 backups: {a: {source: {sqlite: a}, to: [«"ftp:b"»], password: "${KEY}", schedule: "0 2 * * *", rpo: 25h}}
MV108 backups: {a: {source: {sqlite: «../a»}, to: b, password: "${KEY}", schedule: "0 2 * * *", rpo: 25h}}
MV104 backups: {a: {source: {command: «pg_dumpall»}, to: b, password: "${KEY}", schedule: "0 2 * * *", rpo: 25h}}
MV102 backups: {a: {source: {sqlite: a}, to: b, password: "${KEY}", schedule: «daily», rpo: 25h}}
MV102 backups: {a: {source: {sqlite: a}, to: b, password: "${KEY}", schedule: «"0 0 30 2 *"», rpo: 25h}}
MV102 backups: {a: {source: {sqlite: a}, to: b, password: "${KEY}", schedule: «"0 25 * * *"», rpo: 25h}}
MV102 backups: {a: {source: {sqlite: a}, to: b, password: "${KEY}", schedule: "0 2 * * *", rpo: «25»}}
MV105 backups: {a: {source: {sqlite: a}, to: b, password: "${KEY}", schedule: "0 2 * * *", rpo: 25h, verify: {restore: «never»}}}
MV109 backups: {«a»: {source: {directory: a}, to: b, password: "${KEY}", schedule: "0 2 * * *", rpo: 25h, verify: {assert: select 1}}}
MV109 backups: {«a»: {source: {directory: a}, to: [s3:h/b, a/b/c], password: "${KEY}", schedule: "0 2 * * *", rpo: 25h}}
MV109 backups: {a: {source: {sqlite: a}, to: b, password: "${KEY}", credentials: «["${KEY}"]», schedule: "0 2 * * *", rpo: 25h}}
MV107 retention: {backups: {daily: «0»}}
MV104 retention: {backups: {daily: «true»}}
MV107 retention: {backups: {daily: «-1»}}
MV102 retention: {backups: {within: «0d»}}
MV109 retention: {backups: {within: «90m»}}
MV101 retention: {backups: {«hourly»: 24}}
MV103 «ops»: {path: /x}
MV110 ops: {token: "${KEY}", «actions»: [breaker.trip]}
MV401 ops: {token: «"${NOBODYS}"»}
MV108 ops: {token: "${KEY}", path: «no»}
MV101 «limit»: {a: {rate: 300/minute}}
MV101 «replicas»: {min: 3}
MV104 «environments»:
MV104 environments: {«a»: }
MV104 environments: {a: «null»}
MV104 environments: {a: «3»}
MV106 environments: {«a-b»: {}}
MV113 environments: {a: {deploy: {«target»: null}}}
MV101 environments: {a: {«environments»: {}}}
MV102 environments: {a: {retention: {metrics: «45»}}}
MV101 environments: {a: {deploy: {«replica»: {min: 1}}}}
"""
