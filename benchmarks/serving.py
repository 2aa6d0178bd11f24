"""What a server of one model answers: many clients at once beside one request after the other.

    python benchmarks/serving.py models/shakespeare
    python benchmarks/serving.py models/korean-reviews

It runs `trefoil serve` in a process of its own, on this machine alone, and asks it from this one. Printed are requests per
second both ways, how long a request takes, the memory of the server, and whether each answer is the one that its text gets
when nothing else is asked; if not, the exit code is 1.
"""

import argparse
import asyncio
import math
import os
import random
import re
import statistics
import subprocess
import sys
import time

import httpx

ENGLISH = ["three", "apples", "and", "two", "pears", "half", "past", "five"]
KOREAN = ["세", "개의", "사과와", "두", "배", "영화가", "정말", "좋았다", "별로", "재미", "없어요"]
TOLERANCE = 1e-4  # of a score: neighbours change how sums are rounded
TEXTS = 50  # that differ


def bodies(task, new_tokens):
    """Requests, of texts of 1 to 24 words."""
    draw = random.Random(0)
    words = ENGLISH if task == "text-generation" else ENGLISH + KOREAN
    texts = [" ".join(draw.choices(words, k=draw.randint(1, 24))) for _ in range(TEXTS)]
    if task == "text-generation":
        return "/v1/completions", [{"prompt": text, "temperature": 0, "max_tokens": new_tokens} for text in texts]
    return "/predict", [{"inputs": text} for text in texts]


def is_same(one, other):
    """Whether two answers say the same."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            is_same(one[name], other[name]) for name in one.keys() - {"id", "created"}
        )
    if isinstance(one, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return math.isclose(one, other, abs_tol=TOLERANCE) if isinstance(one, float) else one == other


async def ask(client, path, body):
    started = time.perf_counter()
    answer = await client.post(path, json=body)
    answer.raise_for_status()
    return time.perf_counter() - started, answer.json()


async def memory(client):
    text = (await client.get("/metrics")).text
    return float(re.search(r"^process_resident_memory_bytes (\S+)", text, re.MULTILINE)[1]) / 2**20


async def from_clients(client, path, requests, count):
    """All answers, in their order, each with the seconds that it took."""
    waiting, found = iter(enumerate(requests)), [None] * len(requests)

    async def one_client():
        for index, body in waiting:
            found[index] = await ask(client, path, body)

    await asyncio.gather(*(one_client() for _ in range(count)))
    return found


def tell(name, found, seconds):
    took = sorted(each for each, _ in found)
    print(
        f"{name}: {len(found):,} requests in {seconds:.1f} s, {len(found) / seconds:.1f} a second; "
        f"p50 {1000 * statistics.median(took):.0f} ms, p99 {1000 * took[int(0.99 * (len(took) - 1))]:.0f} ms",
        flush=True,
    )
    return len(found) / seconds


async def measure(address, arguments):
    limits = httpx.Limits(max_connections=arguments.clients)
    async with (
        asyncio.timeout(arguments.seconds),
        httpx.AsyncClient(base_url=address, timeout=arguments.seconds, limits=limits) as client,
    ):
        task = (await client.get("/health")).json()["task"]
        path, texts = bodies(task, arguments.new_tokens)
        await from_clients(client, path, texts[:5], 1)  # the first are slower
        started = time.perf_counter()
        alone = await from_clients(client, path, (texts * 2)[: arguments.alone], 1)
        slow = tell("one at a time", alone, time.perf_counter() - started)
        before = await memory(client)
        requests = (texts * (1 + arguments.requests // TEXTS))[: arguments.requests]
        started = time.perf_counter()
        found = await from_clients(client, path, requests, arguments.clients)
        fast = tell(f"{arguments.clients} clients", found, time.perf_counter() - started)
        after = await memory(client)
    expected = [answer for _, answer in alone]
    others = sum(not is_same(answer, expected[index % TEXTS]) for index, (_, answer) in enumerate(found))
    print(f"{fast / slow:.1f} times as many; memory of the server {before:.0f} MiB before, {after:.0f} MiB after")
    print("every answer is the one of its text alone" if not others else f"{others} answers are other ones than alone")
    return 1 if others else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--alone", type=int, default=100, help="requests one at a time; at least 50")
    parser.add_argument("--new-tokens", type=int, default=32, help="of each text that is written")
    parser.add_argument("--seconds", type=float, default=600, help="in which all has to be done")
    arguments = parser.parse_args()
    if arguments.alone < TEXTS:
        parser.error(f"--alone {arguments.alone}: at least {TEXTS}, so that each text is asked alone")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{arguments.model}, {cores} core{'s' * (cores != 1)} for server and clients together", flush=True)
    command = [sys.executable, "-m", "trefoil", "serve", arguments.model, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            place = re.search(r"http://\S+", server.stdout.readline())
            code = 2 if place is None else asyncio.run(measure(place[0], arguments))
        finally:
            server.terminate()
    return code


if __name__ == "__main__":
    sys.exit(main())
