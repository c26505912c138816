"""What people write first: a poller on asyncio and aiohttp that reads executions and prints what has changed.

    aiohttp_poller.py URL EXECUTIONS POLLS

It goes round so many executions until it has made so many polls, sixteen at a time.
"""

import asyncio
import json
import sys

import aiohttp

IN_FLIGHT = 16


def changes(old, new):
    """The steps whose status is another one, and the execution's own."""
    before = {step["stepId"]: step["status"] for step in old["steps"]} if old else {}
    for step in new["steps"]:
        if before.get(step["stepId"]) != step["status"]:
            yield step["stepId"], before.get(step["stepId"]), step["status"]
    if old is None or old["status"] != new["status"]:
        yield None, old and old["status"], new["status"]


async def main():
    url, executions, polls = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    url += "/v2/workflow/executions/get"
    headers = {"x-velt-api-key": "key", "x-velt-auth-token": "token"}
    seen = {}
    numbers = iter(range(polls))

    async def poll(session):
        for number in numbers:
            execution = f"exec_1777374504255_{number % executions:08d}"
            async with session.post(url, headers=headers, json={"data": {"executionId": execution}}) as response:
                view = json.loads(await response.read())["result"]
            for step, before, after in changes(seen.get(execution), view):
                if before is not None:
                    print(execution, step, before, after)
            seen[execution] = view

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(poll(session) for _ in range(IN_FLIGHT)))


asyncio.run(main())
