"""Chat templates render as transformers renders them, and cannot do harm."""

from __future__ import annotations

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from core.errors import BadInput
from core.models.chat_template import render

MESSAGES = [
    {"role": "system", "content": "Be <brief> & \"kind\"."},
    {"role": "user", "content": "  Hi\n"},
    {"role": "assistant", "content": "Hello é"},
    {"role": "user", "content": "Why?"},
]  # fmt: skip
TEMPLATES = {
    "llama-3": "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
    "message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    "blocks on lines": "{% for message in messages %}\n    {% if message.role == 'user' %}\n[INST] {{ message.content }} "
    "[/INST]\n"
    "    {%- else %}\n{{ message.content }}{{ eos_token }}\n    {% endif %}\n{% endfor %}\n",
    "json": "{{ messages | tojson }}{{ messages[0] | tojson(indent=2) }}",
    "loop control": "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}"
    "{{ m.content }}{% break %}{% endfor %}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    "tools and dates": "{{ 'tools' if tools else 'none' }}{{ strftime_now('%Y') }}",
}
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


@pytest.mark.parametrize("name", TEMPLATES)
def test_that_a_template_renders_as_in_transformers(name: str) -> None:
    expected, _ = render_jinja_template([MESSAGES], chat_template=TEMPLATES[name], add_generation_prompt=True, **SPECIAL)
    assert render(TEMPLATES[name], MESSAGES, SPECIAL) == expected[0]


def test_that_a_template_that_refuses_is_heard() -> None:
    with pytest.raises(BadInput, match=r"chat template refuses: System role not supported"):
        render("{{ raise_exception('System role not supported') }}", MESSAGES, SPECIAL)


@pytest.mark.parametrize(
    "template",
    [
        "{% for x in %}",
        "{{ messages[9].content.a.b }}",
        "{{ 1 / 0 }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% for i in range(10**9) %}{% endfor %}",
    ],
)
def test_that_a_broken_or_hostile_template_is_one_error(template: str) -> None:
    with pytest.raises(BadInput, match="chat template"):
        render(template, MESSAGES, SPECIAL)
