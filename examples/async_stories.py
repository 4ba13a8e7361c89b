"""Tell several stories at once in one event loop, each with a time limit."""

import asyncio

import llama_cy


async def tell(pool: llama_cy.ContextPool, opening: str) -> str:
    """Generate in the first context that is free; when the time is over, keep what there is."""
    told = [opening]
    async with pool.acontext(timeout=60) as ctx:

        async def listen() -> None:
            async for text in ctx.astream(opening, llama_cy.sampling(seed=1), max_tokens=40):
                told.append(text)

        try:
            await asyncio.wait_for(listen(), timeout=30)
        except asyncio.TimeoutError:
            told.append(" …")
    return "".join(told)


async def main() -> None:
    """Load, and let three tasks share two contexts."""
    model = await llama_cy.Model.load_async(llama_cy.demo_model_path())
    with llama_cy.ContextPool(model, 2, n_ctx=256) as pool:
        for story in await asyncio.gather(*(tell(pool, f"{name} saw a") for name in ("Lily", "Tom", "The cat"))):
            print(story, end="\n\n")


asyncio.run(main())
