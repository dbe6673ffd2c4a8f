"""Requests that name what is no regular file, or damaged checkpoints, with what the one line says that refuses them."""

_NO_FILES = [("{pipe}", "a pipe"), ("{socket}", "a socket"), ("{device}", "a device"), ("{empty}", "a folder")]

SPECIAL: list[tuple[list[str], str]] = [
    *((["score", place, "--task", "gsm8k"], f"it is {kind}") for place, kind in _NO_FILES),
    *((["translate", "{trial}", "--file", place], f"it is {kind}") for place, kind in _NO_FILES),
    *((["serve", "{trial}", "--token-file", place], f"it is {kind}") for place, kind in _NO_FILES),
    *((["appendix", "--samples", f"a={place}"], f" is {kind}") for place, kind in _NO_FILES),
    *((["plan", "phase1", "--task", f"{place}.toml"], f"it is {kind}") for place, kind in _NO_FILES[:-1]),
    *((["score", "{outputs}", "--task", f"{place}.toml"], f"it is {kind}") for place, kind in _NO_FILES[:-1]),
    *((["launch", "slurm", "phase1", "--profile", place], "no profile") for place, _ in _NO_FILES),
    *((["score", "{outputs}", "--task", "gsm8k", "--out", place], f"is {kind}") for place, kind in _NO_FILES),
    *((["results", "--storage", "{storage}", "--out", place], f"is {kind}") for place, kind in _NO_FILES),
    *((["archive", place, "--into", "{storage}/archive"], f"it is {kind}") for place, kind in _NO_FILES[:2]),
    (["translate", "{trial}", "--file", "{zeros}"], "longer than 64 MiB"),
    (["score", "{zeros}", "--task", "gsm8k"], "longer than 64 MiB"),
    (["appendix", "--samples", "a={zeros}"], "longer than 64 MiB"),
    (["serve", "{trial}", "--token-file", "{zeros}"], "more than 16 MiB"),
    (["launch", "slurm", "phase1", "--profile", "{zeros}"], "more than 16 MiB"),
]
"""What is no regular file, and one of many bytes without an end of a line."""

CHECKPOINTS: dict[str, tuple[str, bytes | None]] = {
    "cut_weights": ("model.safetensors", None),
    "lfs_weights": ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\n"),
    "cut_tokenizer": ("tokenizer.json", None),
    "cut_config": ("config.json", b"{"),
    "no_model": ("config.json", b"{}"),
    "new_model": ("config.json", b'{"model_type": "nobody"}'),
}
"""Copies of a checkpoint with a file that is cut off after 5,000 bytes, or replaced."""

DAMAGED: list[tuple[list[str], str]] = [
    ([*command, "--source", f"{{{name}}}"], message)
    for name, message in (
        ("cut_weights", "model.safetensors is cut off (5,000 of "),
        ("lfs_weights", "model.safetensors is a pointer of Git LFS without the weights: run git lfs pull there"),
        ("cut_tokenizer", "cannot load the tokenizer of"),
        ("cut_config", "config.json is damaged (line 1: "),
        ("no_model", "cannot load the configuration of"),
        ("new_model", "cannot load the configuration of"),
    )
    for command in (["plan", "phase1"], ["phase1"], ["preflight"])
    if (name, *command) != ("cut_tokenizer", "preflight")  # whose first checks ask Ray
]
