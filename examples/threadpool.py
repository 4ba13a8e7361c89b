"""Compute on threads of one's own making, and end a decode that takes too long."""

import time

import llama_cy

with llama_cy.demo_model() as model, model.context(n_ctx=2048, n_batch=2048, n_ubatch=2048) as ctx:
    # Pools stay alive between decodes; `cpumask=[0, 1]` would bind this one to two CPUs.
    ctx.attach(llama_cy.Threadpool(1, poll=0), llama_cy.Threadpool(2, prio="low"))
    print(ctx)
    begin = time.monotonic()
    ctx.set_abort_callback(lambda: time.monotonic() > begin + 0.001, interval=0)
    try:
        ctx.decode([1] * 2000)
    except llama_cy.DecodeAborted as error:
        print(f"too slow: {error}")
    ctx.set_abort_callback(None)
    ctx.detach()
    print(ctx.complete("Once upon a time", max_tokens=8).text)
