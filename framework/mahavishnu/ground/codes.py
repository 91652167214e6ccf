"""The stable codes of findings: what each means, why it matters, an example, the fix."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of finding, as `mahavishnu explain` shows it; the id never changes its meaning."""

    id: str
    title: str
    why: str
    example: str
    fix: str

    @property
    def help(self) -> str:
        """The fix as the last line of a finding."""
        return self.fix[:1].lower() + self.fix[1:].removesuffix(".")


UNREADABLE = Code(
    "MV001",
    "the spec cannot be read",
    "Without a file there is nothing to enforce. This one ends with exit code 2: the run could not begin.",
    "mahavishnu check --spec no/such/file.yaml",
    "Name the file with --spec or MAHAVISHNU_SPEC, or run inside the folder that holds mahavishnu.yaml.",
)
TOO_LARGE = Code(
    "MV002",
    "the file is larger than 1 MiB",
    "A real spec has a few hundred lines; a larger file is a mistake or an attack on whatever reads it.",
    "a log renamed to mahavishnu.yaml",
    "Keep only the spec in the file.",
)
NOT_TEXT = Code(
    "MV003",
    "the file is not plain UTF-8 text",
    "Other encodings, control characters and invisible line breaks make a file that two readers read "
    "differently.",
    "a file saved as UTF-16, or with a NUL byte in it",
    "Save the file as UTF-8, with ordinary line breaks.",
)
SYNTAX = Code(
    "MV004",
    "the file is not YAML",
    "Nothing can be said of a file whose structure is broken.",
    "limits: {per_client: {rate: 300/minute}",
    "Look at the place of the caret, and at the line above it: a bracket, a quote, a tab, a missing "
    "space after `:`.",
)
TOO_DEEP = Code(
    "MV005",
    "the file is nested deeper than 64 levels",
    "No word of the format lies deeper than 8; endless nesting exhausts whatever reads it.",
    "[[[[[[[[ … ]]]]]]]]",
    "Remove the nesting.",
)
TOO_MANY = Code(
    "MV006",
    "the file holds more than 50,000 values",
    "It would take minutes to read, and no service has as many limits.",
    "a generated file with a limit for every customer",
    "Use one limit `per: client` for many callers.",
)
ALIAS = Code(
    "MV007",
    "an alias that cannot be followed",
    "Aliases inside aliases turn a few hundred bytes into gigabytes; an alias inside its own anchor "
    "never ends.",
    "a: &a [*a]",
    "Write the value out, or let an alias stand for a value without aliases.",
)
TAG = Code(
    "MV008",
    "a tag",
    "A tag such as `!!python/object` asks the reader to run something. This format needs none.",
    "port: !!str 8000",
    "Remove the tag; quote the value where it is text.",
)
DIRECTIVE = Code(
    "MV009",
    "a directive",
    "`%YAML 1.1` changes how every value below is read: `no` becomes false and `022` becomes 18.",
    "%YAML 1.1",
    "Remove the line; specs are read as YAML 1.2.",
)
DOCUMENTS = Code(
    "MV010",
    "several documents in one file",
    "Which of them would hold?",
    "mahavishnu: 1\n---\nmahavishnu: 1",
    "Keep one; what differs between environments belongs under `environments`.",
)
DUPLICATE = Code(
    "MV011",
    "a key that is said twice",
    "Readers silently keep one of the two, and not all the same one.",
    "limits: {login: {rate: 5/minute}, login: {rate: 50/minute}}",
    "Remove one of them.",
)
KEY_KIND = Code(
    "MV012",
    "a key that is not text",
    "`true`, `1` and `[a]` are values; as keys they mean another thing to every reader.",
    "limits: {1: {rate: 5/minute}}",
    "Give it a name that starts with a letter.",
)
HIDDEN = Code(
    "MV013",
    "a hidden character in a key or a value",
    "Control and direction-changing characters make a text that looks like another one.",
    'limits: {"per\\u202eclient": {rate: 5/minute}}',
    "Type the word again.",
)
TOO_LONG = Code(
    "MV014",
    "a number of more than 19 digits",
    "It fits no counter, and reading it takes longer than it is worth.",
    "port: 80808080808080808080",
    "Write the number you mean.",
)
EMPTY = Code(
    "MV015",
    "the file is empty",
    "An empty spec would enforce nothing without a word.",
    "a file of comments only",
    "Start with `mahavishnu: 1`, or let `mahavishnu init` write it.",
)
NOT_A_SPEC = Code(
    "MV016",
    "the file is not a mahavishnu spec",
    "`mahavishnu: 1` marks the file and the version of its format.",
    "- limits",
    "Start the file with `mahavishnu: 1`, and write `key: value` pairs.",
)

UNKNOWN_KEY = Code(
    "MV101",
    "an unknown key",
    "A misspelled key that is ignored is a limit that does not hold.",
    "limits: {per_client: {rate: 300/minute, brust: 50}}",
    "Use the word that is suggested; `mahavishnu explain limits` lists the keys of a section.",
)
QUANTITY = Code(
    "MV102",
    "a number without its unit, or in the wrong form",
    "2 of what? Units are written, so that nobody has to guess: `2s`, `99.9%`, `300/minute`, `512Mi`.",
    "slos: {checkout: {objective: 0.9995}}",
    "Write the unit, as the help shows.",
)
MISSING = Code(
    "MV103",
    "a key that must be there",
    "There is no value that would be right for everyone.",
    "service: {name: shop}",
    "Add the key.",
)
KIND = Code(
    "MV104",
    "a value of the wrong kind",
    "Text is never taken for a number, nor a number for yes or no.",
    "deploy: {replicas: {min: three}}",
    "Write the kind of value that the finding asks for.",
)
CHOICE = Code(
    "MV105",
    "a value that is none of those allowed",
    "A word that is not understood cannot be carried out.",
    "limits: {login: {rate: 5/minute, mode: observed}}",
    "Use one of the words listed.",
)
NAME = Code(
    "MV106",
    "a name in the wrong form",
    "A name becomes a metric label, part of an alert's name, a Kubernetes name and part of an environment "
    "variable: only lowercase words joined by `_` survive all four.",
    "limits: {per-client: {rate: 5/minute}}",
    "Write lowercase words joined by single underscores.",
)
RANGE = Code(
    "MV107",
    "a number or a length out of range",
    "Beyond these bounds no real service lives.",
    "service: {port: 80}",
    "Stay within the bounds that the finding names.",
)
FORM = Code(
    "MV108",
    "a text in the wrong form",
    "It would end up as a broken line in a generated file.",
    "service: {app: shop.main}",
    "Write it as the finding says.",
)
CONTRADICTION = Code(
    "MV109",
    "values that do not fit together",
    "Each is fine alone; together they cannot be carried out.",
    "deploy: {replicas: {min: 3, max: 2}}",
    "Change one of them.",
)
LATER = Code(
    "MV110",
    "part of the format, but not carried out by this version",
    "Nothing is accepted and ignored: a promise that is not kept is worse than none.",
    "smoke: [{get: /healthz, expect: 200}]",
    "Remove it until a version carries it out.",
)
ONE_OF = Code(
    "MV111",
    "which kind of entry is it?",
    "An entry is what its keyword says, and only one thing at a time.",
    "limits: {login: {rate: 5/minute, concurrency: 4}}",
    "Keep exactly one of the keywords; write two entries where two are meant.",
)
ENVIRONMENT = Code(
    "MV112",
    "an unknown environment",
    "Running with the settings of no environment at all would be a surprise.",
    "mahavishnu check --env prod",
    "Use one that stands under `environments`.",
)
REMOVES_NOTHING = Code(
    "MV113",
    "an environment removes what is not there",
    "`null` in an environment removes a key; a misspelled one removes nothing, silently.",
    "environments: {local: {deploy: {target: null}}}",
    "Correct the key, or remove the line.",
)
WRITTEN_SECRET = Code(
    "MV121",
    "a secret written into the file",
    "Whoever can read the repository, or a log of CI, would have it.",
    'channels: {room: {slack: "https://hooks.slack.com/…", channel: "#shop"}}',
    'Declare a name in `secrets` and write `"${NAME}"`; then replace the secret, for it has been seen.',
)
NOT_REPLACED = Code(
    "MV122",
    "a secret where none is replaced",
    "`${NAME}` stands for a secret only in the keys that take one; anywhere else it would stay as it is.",
    'service: {owner: "${TEAM}"}',
    "Write the value itself, where it is no secret.",
)
VARIABLE = Code(
    "MV131",
    "an unknown environment variable",
    "A misspelled `MAHAVISHNU_…` that is ignored is a setting that does not hold; and no variable "
    "adds a limit. MAHAVISHNU_DISABLE, _ENV, _SPEC and _STATE are read from the environment alone, and not from `.env` "
    "or a secret.",
    "MAHAVISHNU_LIMIT__PER_CLIENT__RATE=10/minute",
    "Use the variable that is suggested: MAHAVISHNU_ and the keys in capitals, joined by `__`.",
)
UNDECLARED = Code(
    "MV401",
    "a secret that is not declared",
    "Every artifact asks for the declared secrets and no others; an undeclared one would be empty in "
    "production.",
    'channels: {room: {slack: "${SLACK}", channel: "#shop"}}',
    "Add its name to `secrets`.",
)

RESTART = Code(
    "MV602",
    "a change that needs a restart",
    "What names the service, its environment, its app, its port, its store or the address of a dependency was handed "
    "on when the process started; a process that went on with half of the new spec would be neither the old service "
    "nor the new one.",
    "service: {port: 8001} while the process listens on 8000",
    "Deploy the change, or restart the process; until then it goes on with the whole of the old spec.",
)
NOT_BUILT = Code(
    "MV603",
    "a spec that cannot be put to work",
    "The file is good, and something it needs is not there: a secret, a package, a server's address. What is at "
    "work stays as it is, whole.",
    "store: rediss://${REDIS}/0 without a file or variable REDIS",
    "Bring what the message names, then touch the file or send SIGHUP.",
)
UNFIT = Code(
    "MV610",
    "a changed spec that the code at work does not fit",
    "An app does not start where its code names what the spec has not, or guards a function in whose place the "
    "fallback could never stand. One that took such a spec while it runs would fail its requests, or charge a customer "
    "twice, and its next start would be refused.",
    "dependencies: {stripe: {fallback: dead_letter}}, where `@stripe` guards a function without `idempotent=True`",
    "Write what the code needs, or deploy the spec together with code that fits it.",
)
NO_APP = Code(
    "MV406",
    "the app cannot be imported",
    "Whether a `match` names a real route can only be seen in the app itself; it is imported in a "
    "process of its own.",
    "service: {app: shop.mian:app}",
    "Correct `service.app` or `service.app_dir` where they name nothing. Where the app's own code fails, give it what "
    "it needs when it is imported, like an environment variable or a package; `check --no-app` does without it.",
)

LOADER: tuple[Code, ...] = (
    RESTART,
    NOT_BUILT,
    UNFIT,
    UNREADABLE,
    TOO_LARGE,
    NOT_TEXT,
    SYNTAX,
    TOO_DEEP,
    TOO_MANY,
    ALIAS,
    TAG,
    DIRECTIVE,
    DOCUMENTS,
    DUPLICATE,
    KEY_KIND,
    HIDDEN,
    TOO_LONG,
    EMPTY,
    NOT_A_SPEC,
    UNKNOWN_KEY,
    QUANTITY,
    MISSING,
    KIND,
    CHOICE,
    NAME,
    RANGE,
    FORM,
    CONTRADICTION,
    LATER,
    ONE_OF,
    ENVIRONMENT,
    REMOVES_NOTHING,
    WRITTEN_SECRET,
    NOT_REPLACED,
    VARIABLE,
    UNDECLARED,
    NO_APP,
)
"""The codes of the loader itself; the cross-checks declare their own."""
