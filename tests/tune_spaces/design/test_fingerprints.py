"""Presets and all variants of all phases keep the fingerprints under which finished trials are stored.

With another fingerprint a finished trial is not reused and a campaign cannot be resumed. A new field of the spec is
therefore left out of the fingerprint while it has its default. One variant has changed since 0.2.0: the gates of
hybrid-adapter start open.
"""

import pytest

from ray_bridge import fingerprint, preset
from tune_spaces.design import phases
from tune_spaces.design.plan import make_plan
from tune_spaces.design.variants import compression

PRESETS = {
    "tiny": "84c9575e4d69001d",
    "paper": "19e1ca66a6cec0bc",
}
VARIANTS = {
    "tiny": {
        "phase1": {
            "full": "84c9575e4d69001d",
            "A": "07f9e99b197f6982",
            "B": "4872fd2f6b12218a",
            "C": "52dc12f784ccbb6d",
        },
        "phase2": {
            "swap": "08eb1c7c475d7ef8",
            "hybrid-residual": "6c7e52b2376c3280",
            "hybrid-adapter": "88f87d336650b78b",
        },
        "phase3": {
            "k64": "31b08e67aca85610",
            "k128": "d64cbeb6058943f1",
            "k256": "b9319bef1605d8df",
            "k512": "e42ee44af6f4a550",
            "attention-pooling": "4613e42f8de219da",
            "dit-xattn": "84c9575e4d69001d",
            "hotpotqa": "e17502805b70398c",
            "math": "26df9f26aac29247",
            "target-70b": "8368525944159a00",
        },
        "rivals": {
            "resampler": "f2c8a61fbba0f487",
            "kv-prefix": "511cc8dec7dfd118",
            "latent-thoughts": "7215dcb0418c9150",
            "c2c": "b70e4654ee86f3c5",
            "linear": "9ccd58e0bb2c4a9e",
            "linear-answer": "4311407313b4709a",
        },
        "ablate": {
            "full": "84c9575e4d69001d",
            "no-kl": "608ad64b51f0f96d",
            "no-prompt": "9884512ade1dced0",
            "no-decode": "a102148ac154792e",
            "no-projection": "52dc12f784ccbb6d",
            "none": "2de059e1fdacb9ad",
            "only-kl": "4872fd2f6b12218a",
            "only-prompt": "4a9f4a89dc5d6b48",
            "only-decode": "e91581a6680e6570",
            "only-projection": "fd89601ccdb9079d",
            "kl+prompt": "689eb409da9e3763",
            "kl+decode": "32472295b2b06c4f",
            "kl+projection": "8f5c00658ddd61bb",
            "prompt+decode": "fac12bf2f149c2f2",
            "prompt+projection": "9db09bd93e7c9d9c",
            "decode+projection": "6ff52caa87559c65",
            "k64": "31b08e67aca85610",
            "k128": "d64cbeb6058943f1",
            "k256": "b9319bef1605d8df",
            "k512": "e42ee44af6f4a550",
        },
    },
    "paper": {
        "phase1": {
            "full": "19e1ca66a6cec0bc",
            "A": "650a1f53e7f91806",
            "B": "603a7e559202b0a0",
            "C": "5579ff2797920e99",
        },
        "phase2": {
            "swap": "4e16c1005662d7af",
            "hybrid-residual": "dff58145fcafe7d3",
            "hybrid-adapter": "a01ce15c190f7bb1",
        },
        "phase3": {
            "k64": "19e1ca66a6cec0bc",
            "k128": "7642723cc09cbf64",
            "k256": "19c7aa0bb7a10340",
            "k512": "53e276004dc2e450",
            "attention-pooling": "46f0a48d08bf087c",
            "dit-xattn": "c86f63f6fd007fe3",
            "hotpotqa": "8a554010cf920f24",
            "math": "9a674037705240e4",
            "target-70b": "d191f2adb01f4bfe",
        },
        "rivals": {
            "resampler": "ee44015cddf3fc9b",
            "kv-prefix": "1df236a65f7e8465",
            "latent-thoughts": "e52e57b9d4907531",
            "c2c": "9e99bb18f25cc287",
            "linear": "04d1594ba2586eb6",
            "linear-answer": "cd2069880bcbc8fc",
        },
        "ablate": {
            "full": "19e1ca66a6cec0bc",
            "no-kl": "332de957cfca02dd",
            "no-prompt": "dd6e0fd279e5f137",
            "no-decode": "be9cf56d8fa3a6cb",
            "no-projection": "5579ff2797920e99",
            "none": "08d743b485fa6eb9",
            "only-kl": "603a7e559202b0a0",
            "only-prompt": "aeed20107c74228c",
            "only-decode": "439df990b34ccf82",
            "only-projection": "305274365f31f37c",
            "kl+prompt": "1413a7b6888d60f2",
            "kl+decode": "ba1055629521d8f1",
            "kl+projection": "306c5ca2ef356153",
            "prompt+decode": "2ebf9e4bd7a088c5",
            "prompt+projection": "01e9fed508367e72",
            "decode+projection": "bc7ac68412db9204",
            "k64": "19e1ca66a6cec0bc",
            "k128": "7642723cc09cbf64",
            "k256": "19c7aa0bb7a10340",
            "k512": "53e276004dc2e450",
        },
    },
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_keep_their_fingerprints(name: str) -> None:
    assert fingerprint(preset(name)[0]) == PRESETS[name]


@pytest.mark.parametrize("phase", phases.PHASES)
@pytest.mark.parametrize("name", PRESETS)
def test_variants_keep_their_fingerprints(name: str, phase: str) -> None:
    base = preset(name)[0]
    chosen = phases.ablate(base, phases.DESIGNS) if phase == "ablate" else phases.PHASES[phase](base)
    trials = make_plan(chosen, base).trials.values()
    found = {variant.name: fingerprint(variant.spec(base, 0)) for variant in compression()}
    found |= {trial.variant: trial.fingerprint for trial in trials}
    recorded = VARIANTS[name][phase]
    assert {variant: found[variant] for variant in recorded} == recorded
