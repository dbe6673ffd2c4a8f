"""Wrong addresses of MLflow, and commands on a damaged storage, with what the one line says that refuses them.

Words in braces are the places of `wrong_requests`.
"""

TRACKING: list[tuple[list[str], str]] = [
    (["phase1", "--tracking-uri", ""], "--tracking-uri"),
    (["phase1", "--tracking-uri", "nobody"], "MLflow cannot track to"),
    (["phase1", "--tracking-uri", "file:///tmp"], "MLflow cannot track to"),
    (["phase1", "--tracking-uri", "http://user@127.0.0.1:9"], "127.0.0.1:9"),
    (["phase1", "--tracking-uri", "http://user@nowhere.invalid"], "nowhere.invalid"),
    (["phase1", "--tracking-uri", "http://127.0.0.1:99999"], "error: "),
    (["phase1", "--tracking-uri", "http://[::1"], "error: "),
    *(
        ([*command, "--tracking-uri", uri], f"and command lines would show: set {instead} instead")
        for command in (["phase1"], ["plan", "phase1"], ["submit", "phase1"], ["launch", "slurm", "phase1"])
        for uri, instead in (
            ("http://user:SECRET@127.0.0.1:9", "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
            ("postgresql+psycopg://user:SECRET@127.0.0.1/x", "PGPASSWORD"),
        )
    ),
    (["phase1", "--tracking-uri", "sqlite:///{missing}/mlflow.db"], "does not exist"),
    (["phase1", "--tracking-uri", "sqlite:///{text}"], "is not a usable SQLite database"),
    (["phase1", "--tracking-uri", "sqlite:///{empty}"], "is not a usable SQLite database"),
    (["ui", "--storage", "{storage}", "--tracking-uri", "nobody"], "nobody"),
    (["ui", "--storage", "{storage}", "--tracking-uri", "sqlite:///{missing}/mlflow.db"], "does not exist"),
    (
        ["status", "--storage", "{storage}", "--watch", "--tracking-uri", "http://user:SECRET@127.0.0.1:9"],
        "127.0.0.1:9",
    ),
    (["status", "--storage", "{storage}", "--tracking-uri", "http://127.0.0.1:9"], "goes with --watch"),
    (["preflight", "--tracking-uri", ""], "--tracking-uri"),
    *(
        (["status", "--storage", "{storage}", "--watch", "--tracking-uri", uri], message)
        for uri, message in (
            ("http://127.0.0.1:9/?t=SECRET", "no MLflow server at http://127.0.0.1:9/?***"),
            ("http://user:SECRET/x@127.0.0.1:9", "its host or its port is none"),
            ("postgresql://user:SECRET/x@127.0.0.1", "no address: give postgresql://"),
            ("http://127.0.0.1:9/SECRET\n", "the address has a control character"),
        )
    ),
    (["phase1", "--tracking-uri", "http://127.0.0.1:9/?t=SECRET"], "it has a query"),
    (["phase1", "--tracking-uri", "postgresql://127.0.0.1:9/x?user=a&password=SECRET"], "set PGPASSWORD instead"),
    (["phase1", "--notify", "https://host/SECRET\n"], "the address has a control character"),
]

DAMAGE: list[tuple[str, str, list[str], str]] = [
    (file, content, [command, "--storage", "{storage}"], file)
    for file in ("campaign.json", "plan.json")
    for content, commands in (
        ('{"name":', ("status", "results", "card", "appendix", "resume")),
        ("[" * 100_000, ("status", "results")),
        ("\udcff", ("status", "results")),
        ("[]", ("status", "results", "card")),
        ("{}", ("status", "results")),
    )
    for command in commands
    if (file, command) != ("plan.json", "appendix")  # which is written from the trials alone
] + [
    (file, content, [command, "--storage", "{storage}"], f"is damaged ({reason})")
    for file, content, reason, commands in (
        ("gate.json", "5", "no JSON object", ("card", "appendix")),
        ("{trial}/spec.json", "5", "no JSON object", ("results",)),
        ("{trial}/spec.json", "{}", "no spec", ("results", "appendix")),
    )
    for command in commands
]
"""Files of a campaign, what stands in them instead, and a request whose one line names the file."""
