"""Serve many requests from a few threads: each borrows a context of a pool, and waits where all are lent."""

from concurrent.futures import ThreadPoolExecutor

import llama_cy


def answer(request: str) -> str:
    """Do one request, as a thread of a server does."""
    with pool.context(timeout=60) as ctx:
        return ctx.complete(request, llama_cy.sampling(seed=1), max_tokens=20).text


with llama_cy.demo_model() as model, llama_cy.ContextPool(model, size=2, n_ctx=256) as pool:
    requests = [f"{name} went to the" for name in ("Lily", "Tom", "Mom", "The dog", "Ben")]
    with ThreadPoolExecutor(max_workers=4) as threads:
        for request, text in zip(requests, threads.map(answer, requests), strict=True):
            print(f"{request}{text!r}")
    print(pool)
