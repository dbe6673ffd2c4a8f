"""Keep AWS's keys out of Ray's records: Tune writes them into a runtime environment of each trial, which Ray logs."""


def keep_keys() -> None:
    """Take the keys from what Tune sends to trials, which write into the storage and to no bucket."""
    from ray.tune.execution import class_cache

    for name in [name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")]:
        class_cache.ENV_VARS_TO_PROPAGATE.discard(name)
