"""Tokenizers with chat templates in the style of public models: what they refuse, strip, add and date is theirs."""

from __future__ import annotations

import copy
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from ray_bridge.models.frozen_lm import FrozenLM
from tests.support.model_pairs import PairFolders, make_model, make_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.model_pairs import Arch

_LLAMA = (
    "{{- bos_token }}{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    "{%- set date_string = strftime_now('%d %b %Y') %}{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}"
    "{%- endif %}{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] | trim %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set system = '' %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\n' }}{{- 'Cutting Knowledge Date: December 2023\n' }}"
    "{{- 'Today Date: ' + date_string + '\n\n' }}{{- system }}{{- '<|eot_id|>' }}{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{- message['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
_MISTRAL = (
    "{{- bos_token }}{%- for message in messages %}{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{- raise_exception('roles must alternate user/assistant') }}{%- endif %}{%- if message['role'] == 'user' %}"
    "{{- '[INST] ' + message['content'] + '[/INST]' }}{%- elif message['role'] == 'assistant' %}"
    "{{- ' ' + message['content'] | trim + eos_token }}{%- else %}{{- raise_exception('no such role') }}{%- endif %}"
    "{%- endfor %}"
)
_QWEN = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_THINKING = (
    "{%- for message in messages %}{%- if message['role'] == 'assistant' and loop.last %}"
    "{{- '<|im_start|>assistant\n<think>\n\n</think>\n\n' + message['content'] + '<|im_end|>\n' }}{%- else %}"
    "{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}"
    "{%- endif %}"
)
_GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}{% if message['role'] == 'assistant' %}"
    "{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
_PHI = (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '<|user|>\n' + message['content'] + '<|end|>\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ '<|assistant|>\n' + message['content'] + '<|end|>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
_DATED = (
    "{{ bos_token }}<|system|>Today is {{ strftime_now('%Y-%m-%d') }}.<|end|>{% for message in messages %}"
    "<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_DEEPSEEK = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '<｜User｜>' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ '<｜Assistant｜>' + message['content'] + '<｜end▁of▁sentence｜>' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}"
)
_STYLES: dict[str, tuple[Arch, tuple[str, ...], str]] = {
    "llama": ("llama", ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), _LLAMA),
    "mistral": ("mistral", ("[INST]", "[/INST]"), _MISTRAL),
    "qwen": ("qwen2", ("<|im_start|>", "<|im_end|>"), _QWEN),
    "thinking": ("qwen2", ("<|im_start|>", "<|im_end|>"), _THINKING),
    "gemma": ("mistral", ("<start_of_turn>", "<end_of_turn>"), _GEMMA),
    "phi": ("mistral", ("<|user|>", "<|assistant|>", "<|end|>"), _PHI),
    "smollm": ("gpt_neox", ("<|im_start|>", "<|im_end|>"), _QWEN.replace("assistant.", "AI assistant named SmolLM")),
    "dated": ("llama", ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"), _DATED),
    "deepseek": ("llama", ("<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"), _DEEPSEEK),
}
STYLES = tuple(_STYLES)


@cache
def chat_tokenizer(style: str) -> Any:
    """Return a fast tokenizer with a chat template in one of `STYLES`: read, never changed."""
    from tokenizers import AddedToken

    arch, special, template = _STYLES[style]
    tokenizer = copy.deepcopy(make_tokenizer(arch))
    strips = style == "phi"  # Phi-3's take the white space after them
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [AddedToken(token, special=True, rstrip=strips) for token in special]}
    )
    tokenizer.chat_template = template
    return tokenizer


@cache
def chat_lm(style: str, width: int = 32) -> FrozenLM:
    """Return a random model that reads conversations, shared by all tests: do not change its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(width)
        model = make_model(_STYLES[style][0], chat_tokenizer(style), width=width)
    return FrozenLM(model, chat_tokenizer(style), style).reading("chat")


def save_chat_pair(folder: Path, source: str, target: str) -> PairFolders:
    """Save two random checkpoints with chat templates below a folder and return their folders."""
    for role, style, width in (("source", source, 48), ("target", target, 32)):
        lm = chat_lm(style, width)
        lm.model.save_pretrained(folder / role)
        lm.tokenizer.save_pretrained(folder / role)
    return PairFolders(source=str(folder / "source"), target=str(folder / "target"))
