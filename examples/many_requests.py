"""Several conversations with one model at once, in OpenAI's form, with asyncio.

Each request comes with all of its conversation: the engine keeps none.
"""

import argparse
import asyncio

from mlc_llm import AsyncMLCEngine

QUESTIONS = ("What is one plus one?", "Name three colours.", "Count to five.")


def conversation(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


async def answer_all(engine: AsyncMLCEngine) -> None:
    """Ask everything at once, then one question whose answer is shown while it is written."""
    create = engine.chat.completions.create
    replies = await asyncio.gather(*(create(messages=conversation(q)) for q in QUESTIONS))
    for question, reply in zip(QUESTIONS, replies, strict=True):
        print(f"> {question}\n{reply.choices[0].message.content}")
    print("> What is the meaning of life?")
    messages = conversation("What is the meaning of life?")
    async for chunk in await create(messages=messages, stream=True, max_tokens=64):
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    metrics = await engine.metrics()
    print(f"\n({metrics.finished_requests} requests, {metrics.completion_tokens} tokens)")


async def main(model: str, device: str, model_lib: str | None) -> None:
    async with AsyncMLCEngine(model, device, model_lib) as engine:
        await answer_all(engine)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="demo", help="a model folder or HF://org/name")
    parser.add_argument("--device", default="auto", help="auto, a name, or name:index")
    parser.add_argument("--model-lib", help="a compiled library; without it one is found or made")
    asyncio.run(main(**vars(parser.parse_args())))
