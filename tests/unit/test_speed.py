"""Speeds are positive numbers of what was run, and tuning gives settings that a context takes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from support.command import ONE_THREAD, llama
from support.encoder_models import write_bert
from support.recurrent_models import write_mamba

import llama_cy
from llama_cy import speed as module
from llama_cy import threadpool

SMALL: dict[str, Any] = {"n_prompt": 12, "n_tokens": 5, "repeat": 2}


class TestSpeed:
    def test_figures(self, tiny: llama_cy.Model) -> None:
        speed = llama_cy.measure_speed(tiny, **SMALL, n_threads=1)
        assert (speed.n_prompt, speed.n_tokens) == (12, 5)
        assert min(speed.prompt, speed.decode, speed.text) > 0

    def test_it_is_tokens_by_seconds(self, tiny: llama_cy.Model, monkeypatch: pytest.MonkeyPatch) -> None:
        # A clock that goes on by one second each time that somebody looks.
        ticks = iter(range(10**6))
        monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
        assert llama_cy.measure_speed(tiny, **SMALL, n_threads=1) == (12.0, 5.0, 5.0, 12, 5)

    def test_a_memory_that_cannot_go_back(self, tmp_path: Path) -> None:
        with llama_cy.Model(write_mamba(tmp_path / "mamba.gguf")) as model:
            assert llama_cy.measure_speed(model, **SMALL, n_threads=1).text > 0

    def test_the_context_is_gone(self, tiny: llama_cy.Model) -> None:
        before = llama_cy.live_objects()
        llama_cy.measure_speed(tiny, **SMALL, n_threads=1)
        assert llama_cy.live_objects() == before

    @pytest.mark.parametrize("name", ["n_prompt", "n_tokens", "repeat"])
    @pytest.mark.parametrize("value", [0, -1, 2**31])
    @pytest.mark.parametrize("function", [llama_cy.measure_speed, llama_cy.tune])
    def test_bad_numbers(self, tiny: llama_cy.Model, function: Any, name: str, value: int) -> None:
        with pytest.raises(ValueError, match=f"{name} is {value}"):
            function(tiny, **SMALL | {name: value})

    def test_a_model_that_does_not_generate(self, tmp_path: Path) -> None:
        with (
            llama_cy.Model(write_bert(tmp_path / "bert.gguf")) as model,
            pytest.raises(llama_cy.LlamaError),
        ):
            llama_cy.measure_speed(model, **SMALL, n_threads=1)


class TestTune:
    def test_settings_make_a_context(self, tiny: llama_cy.Model) -> None:
        said: list[str] = []
        tuning = llama_cy.tune(tiny, **SMALL, progress=said.append)
        assert list(tuning.settings) == ["n_threads", "n_threads_batch", "flash_attn_type", "poll", "n_ubatch"]
        assert [line.split()[0] for line in said] == list(tuning.settings)
        assert {trial.name for trial in tuning.trials} == set(tuning.settings)
        assert min(trial.seconds for trial in tuning.trials) > 0
        with tiny.context(n_ctx=64, **tuning.settings) as context:
            context.decode([1, 2])

    def test_the_fastest_is_taken_only_if_it_saves_enough(
        self, tiny: llama_cy.Model, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        times = {50: 1.0, 0: 0.98, 100: 1.2}

        def take_turns(courses: list[Any], *_: object) -> list[float]:
            return (
                [times[value] for value in list(times)[: len(courses)]] if len(courses) <= 3 else [1.0] * len(courses)
            )

        monkeypatch.setattr(module, "_take_turns", take_turns)
        assert llama_cy.tune(tiny, **SMALL).settings["poll"] == 50
        times[0] = 0.9
        assert llama_cy.tune(tiny, **SMALL).settings["poll"] == 0

    def test_what_is_given_stays(self, tiny: llama_cy.Model) -> None:
        tuning = llama_cy.tune(tiny, **SMALL, n_threads=1, n_threads_batch=1, poll=0, n_ubatch=64)
        assert list(tuning.settings) == ["flash_attn_type"]

    def test_a_quantized_cache_keeps_flash_attention(self, demo: llama_cy.Model) -> None:
        given: dict[str, Any] = {"n_threads": 1, "n_threads_batch": 1, "poll": 0, "n_ubatch": 64}
        tuning = llama_cy.tune(demo, **SMALL, **given, type_k="q8_0", type_v="q8_0")
        assert tuning.settings == {"flash_attn_type": llama_cy.FlashAttnType.ENABLED}

    def test_thread_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "default_n_threads", lambda: 6)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
        assert list(module._thread_counts()) == [6, 3, 1, 12]
        assert threadpool.default_n_threads() >= 1


class TestCommand:
    def test_table(self, tiny_path: Path) -> None:
        done = llama("bench", "-m", str(tiny_path), "-p", "8", "-n", "4", "--repeat", "1", *ONE_THREAD)
        assert done.returncode == 0
        for words in ("tokens per second", "prompt of 8", "4 decodes", "text of 4"):
            assert words in done.stdout.decode()

    def test_json_with_tuning(self, tiny_path: Path) -> None:
        arguments = ["-p", "8", "-n", "4", "--repeat", "1", "--tune", "--json", "--quiet"]
        done = llama("bench", "-m", str(tiny_path), *arguments, *ONE_THREAD)
        assert (done.returncode, done.stderr) == (0, b"")
        found = json.loads(done.stdout)
        assert found["tokens_per_second"]["n_prompt"] == 8
        assert found["settings"]["flash_attn_type"] in ("disabled", "enabled")
        assert "n_threads" not in found["settings"]

    @pytest.mark.parametrize("option", ["--n-prompt", "--n-tokens", "--repeat", "--n-threads"])
    def test_usage_errors(self, option: str) -> None:
        done = llama("bench", option, "0")
        assert done.returncode == 2
        assert option in done.stderr.decode()
