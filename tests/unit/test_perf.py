"""Times and counts of a context."""

from __future__ import annotations

import llama_cy


def test_counts(tiny: llama_cy.Model) -> None:
    with tiny.context(n_ctx=64, n_threads=1, no_perf=False) as context:
        context.decode([1, 2, 3, 4, 5])
        context.logits()
        for token in (6, 7, 8):
            context.decode([token])
            context.logits()
        perf = context.perf()
        assert (perf.n_p_eval, perf.n_eval) == (5, 3)
        assert perf.t_p_eval > 0
        assert perf.t_eval > 0
        assert perf.t_load > 0
        assert perf.n_reused > 0


def test_reset(tiny: llama_cy.Model) -> None:
    with tiny.context(n_ctx=64, n_threads=1, no_perf=False) as context:
        context.decode([1, 2, 3])
        before = context.perf()
        context.perf_reset()
        after = context.perf()
        # It counts at least 1, where it counted nothing.
        assert (before.n_p_eval, after.n_p_eval, after.n_eval, after.n_reused) == (3, 1, 1, 0)
        assert (after.t_p_eval, after.t_eval) == (0, 0)
        assert after.t_start > before.t_start
        context.decode([4, 5, 6, 7])
        assert context.perf().n_p_eval == 4


def test_no_times_unless_asked_for(tiny: llama_cy.Model) -> None:
    with tiny.context(n_ctx=64, n_threads=1) as context:
        context.decode([1, 2, 3])
        perf = context.perf()
        assert (perf.n_p_eval, perf.t_p_eval) == (3, 0)
