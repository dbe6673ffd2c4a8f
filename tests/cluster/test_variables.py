"""Which variables count as secrets by their names and their values."""

import pytest

from cluster.variables import NOTIFY, secrets_among


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY", "APIKEY", "WANDB_KEY", "SSH_KEY_FILE", "DB_PASS", "db_pass",
     "PGPASSWORD", "MY_PWD", "GIT_CREDENTIALS", NOTIFY],
)  # fmt: skip
def test_a_name_that_says_so_is_a_secret(name: str) -> None:
    assert secrets_among({name: "x"}) == [name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_HOME", "/shared/hf"),
        ("KEYBOARD", "us"),
        ("BYPASS_CACHE", "1"),
        ("PWD", "/home/me"),
        ("OMP_NUM_THREADS", "4"),
        ("IMAGE", "docker://registry:5000/team/image@sha256:0123"),
    ],
)
def test_other_variables_are_not(name: str, value: str) -> None:
    assert secrets_among({name: value}) == []


def test_an_address_with_a_password_is_one_whatever_its_name() -> None:
    assert secrets_among({"STORE": "postgresql://user:SECRET@host/db"}) == ["STORE"]
