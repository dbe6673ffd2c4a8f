"""The command that serves a trained translator over HTTP."""

from pathlib import Path

import click

from cluster.cli.checks import FILE, PORT, TEXT, NumberType, require_meaning
from cluster.cli.translators import source_option, target_option, trust_option

COUNT = click.IntRange(1, 100_000)


@click.command()
@click.argument("run")
@click.option(
    "--host",
    type=TEXT,
    default="127.0.0.1",
    help="interface to listen on; others than this machine's own need a token",
)
@click.option("--port", type=PORT, default=8000, help="port to listen on")
@click.option("--token-file", type=FILE, help="file with the token that requests must show [or $ABLATE_SERVE_TOKEN]")
@click.option("--replicas", type=COUNT, default=1, help="processes that hold the models")
@click.option(
    "--autoscale",
    multiple=True,
    metavar="NAME=VALUE",
    help="a setting of Ray Serve's AutoscalingConfig instead of --replicas, as in max_replicas=4; repeatable",
)
@click.option("--cpus", type=NumberType(min=0), default=1.0, help="CPU cores that Ray reserves for a replica")
@click.option("--gpus", type=NumberType(min=0), help="GPUs of a replica  [default: 1 if the cluster has any]")
@click.option("--batch-size", type=COUNT, default=16, help="questions that a replica decodes together")
@click.option("--batch-wait-ms", type=NumberType(min=0), default=10.0, help="how long a batch waits to be filled")
@click.option("--max-question-chars", type=COUNT, default=8000, help="longer questions get 413")
@click.option("--max-new-tokens", type=COUNT, help="requests for more tokens get 413  [default: the job's]")
@click.option("--max-queue", type=COUNT, default=128, help="questions that may wait for a replica; more get 429")
@source_option
@target_option
@trust_option
def serve(
    run: str,
    host: str,
    port: int,
    token_file: Path | None,
    replicas: int,
    autoscale: tuple[str, ...],
    cpus: float,
    gpus: float | None,
    batch_size: int,
    batch_wait_ms: float,
    max_question_chars: int,
    max_new_tokens: int | None,
    max_queue: int,
    source: str | None,
    target: str | None,
    plugins: tuple[str, ...],
) -> int:
    """Serve a trained translator: a page to compare conditions, and an API as OpenAI's.

    RUN is a trial's folder (STORAGE/CAMPAIGN/trials/NAME), an exported folder or bundle, or a name on the hub. Runs on
    Ray Serve, on the cluster at $RAY_ADDRESS or on this machine, until Ctrl-C or SIGTERM.
    """
    from cluster.serving.run import run_server
    from cluster.serving.settings import Limits, ServerSettings, parse_autoscaling, read_token, require_packages

    require_meaning("--replicas", not autoscale, "without --autoscale, whose min_replicas and max_replicas count them")
    require_packages()
    settings = ServerSettings(
        place=run,
        source=source,
        target=target,
        plugins=plugins,
        host=host,
        port=port,
        token=read_token(token_file),
        limits=Limits(question_chars=max_question_chars, new_tokens=max_new_tokens, queue=max_queue),
        replicas=replicas,
        autoscaling=parse_autoscaling(autoscale),
        cpus=cpus,
        gpus=gpus,
        batch_size=batch_size,
        batch_wait_ms=batch_wait_ms,
    )
    return run_server(settings, click.echo)


COMMANDS = (serve,)
